"""Address: which phone an adb profile means, and the way to it."""

from typing import Annotated

import pydantic
from pydantic_core import PydanticCustomError

DEFAULT_KEY = "~/.android/adbkey"
DEFAULT_PORT = 5555
DEFAULT_SERVER = "127.0.0.1:5037"

_HOST = r"[A-Za-z0-9_][A-Za-z0-9_.%-]*"
_Text = Annotated[str, pydantic.Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=255)]
_File = Annotated[str, pydantic.Field(pattern=r"^[^\x00-\x1f]+$", max_length=1000)]
_ConfigFile = Annotated[str, pydantic.Field(pattern=r'^[^"\\$\x00-\x1f]+$', max_length=1000)]


class Address(pydantic.BaseModel):
    """A phone that listens on TCP (`host`), or one that is attached, here or at an adb server elsewhere.

    Without `host`, `serial` and `model` it is the one phone that is attached.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)

    host: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:%-]*$", max_length=255)] | None = None
    port: Annotated[int, pydantic.Field(ge=1, le=65535)] = DEFAULT_PORT
    serial: _Text | None = None
    model: _Text | None = None
    server: Annotated[str, pydantic.Field(pattern=rf"^({_HOST}|\[[0-9A-Fa-f:.]+\]):[0-9]{{1,5}}$")] | None = None
    tunnel: Annotated[str, pydantic.Field(pattern=rf"^([A-Za-z0-9_][A-Za-z0-9_.+-]*@)?{_HOST}$")] | None = None
    config_file: _ConfigFile | None = None
    key_file: _File = DEFAULT_KEY

    @pydantic.field_validator("port", "serial", "model", "server", "tunnel", "config_file")
    @classmethod
    def _goes_with(cls, value: object, info: pydantic.ValidationInfo) -> object:
        by_tcp = info.data.get("host") is not None
        if info.field_name == "port" and not by_tcp:
            raise PydanticCustomError("without_host", "it is the port of host, which is missing")
        if info.field_name != "port" and by_tcp:
            raise PydanticCustomError("with_host", "host says already which phone is meant")
        if info.field_name == "config_file" and info.data.get("tunnel") is None:
            raise PydanticCustomError("without_tunnel", "it is for tunnel, which is missing")
        return value

    def __str__(self) -> str:
        if self.host is not None:
            return f"{self.host} port {self.port}"
        if self.serial is not None:
            which = f"the phone {self.serial}"
        elif self.model is not None:
            which = f"the phone of model {self.model}"
        else:
            which = "the attached phone"
        places = ([f"adb server {self.server}"] if self.server else []) + ([self.tunnel] if self.tunnel else [])
        return f"{which} ({' on '.join(places)})" if places else which
