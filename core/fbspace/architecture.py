"""Architecture: one network of a space, as a JSON file; the published networks (the zoo) are such files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic

from fbbase.errors import FbError
from fbbase.files import read_text, write_text
from fbbase.parsing import parse_json
from fbbase.plugins import PluginFolder
from fbspace.errors import ArchitectureError
from fbspace.listing import Listing, scale
from fbspace.opspec import OpSpec
from fbspace.space import SPACES, Space, load_space

ZOO = PluginFolder("published network", "fbspace.zoo", suffix=".json")

FILE_BYTES = 4 << 20
"""An architecture's file is a few kilobytes; its provenance may be longer."""


_Name = Annotated[str, pydantic.Field(max_length=1000)]


class Predicted(pydantic.BaseModel, extra="forbid", frozen=True):
    """What a latency table said of the network when it was chosen: latency and its 95 % interval, if it has one."""

    latency_us: Annotated[float, pydantic.Field(gt=0)]
    ci_low_us: Annotated[float, pydantic.Field(ge=0)] | None = None
    ci_high_us: Annotated[float, pydantic.Field(gt=0)] | None = None
    lut: _Name
    device: _Name
    runtime: _Name


class Architecture(pydantic.BaseModel, extra="forbid", frozen=True):
    """A network: the space, the candidate chosen in each layer, the head's width, and where it came from.

    One that is of no space, having widths of its own, holds its operators as `network` in place of space and choices;
    it is then the only network of a space that has its name. `provenance` is free-form: the search's settings,
    accuracies, a citation.
    """

    format: Literal["fbnet-lab architecture 1"] = "fbnet-lab architecture 1"
    name: _Name
    space: str = ""
    choices: tuple[str, ...] = ()
    head_channels: int | None = None
    network: Listing | None = None
    predicted: Predicted | None = None
    provenance: dict[str, Any] = {}

    @pydantic.model_validator(mode="after")
    def _fill(self) -> Self:
        if self.network is None:
            if not self.space:
                raise ValueError("it names no space, and lists no operators as its network either")
            return self
        for name, filled in (("space", self.name), ("choices", self.network.choices)):
            if getattr(self, name) not in (type(filled)(), filled):
                raise ValueError(f"{name} and network exclude each other")
            object.__setattr__(self, name, filled)
        return self

    def load_space(self) -> Space:
        """Return the space this network belongs to."""
        return self.network.space(self.name) if self.network is not None else load_space(self.space)

    def specs(self, space: Space | None = None) -> list[OpSpec]:
        """Return the operators that run, in order. Raises ArchitectureError where it does not fit."""
        return (space or self.load_space()).specs(self.choices, self.head_channels)

    def all_specs(self, space: Space | None = None) -> list[OpSpec]:
        """Return the operators from stem to classifier, one for every layer: identities too."""
        return (space or self.load_space()).all_specs(self.choices, self.head_channels)

    def save(self, path: Path) -> None:
        """Write the file in one step."""
        filled = set() if self.network is None else {"space", "choices", "network"}
        content = self.model_dump(mode="json", exclude_none=True, exclude=filled)
        if self.network is not None:
            content["network"] = self.network.model_dump(mode="json", exclude_defaults=True)
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def choose(space_name: str, choices: Sequence[str], name: str, **fields: Any) -> Architecture:
    """Return one network of a space; where widths or sizes were decided it lists its operators.

    `fields` are further ones of the file. Raises ArchitectureError where a choice does not fit.
    """
    space = load_space(space_name)
    if not space.is_masked:
        return Architecture(name=name, space=space_name, choices=tuple(choices), **fields)
    specs = space.all_specs(choices)
    return Architecture(name=name, network=scale(space, specs, size=specs[0].height), **fields)


def load_architecture(name: str) -> Architecture:
    """Return a network from a .json file, or a published one by name (`fbnet-a`).

    Raises ArchitectureError where the file is not an architecture or does not fit its space.
    """
    is_file = name.endswith(".json") or "/" in name or Path(name).exists()
    path = Path(name) if is_file else ZOO.path(name)
    content = parse_json(read_text(path, "architecture file", FILE_BYTES), str(path), ArchitectureError)
    try:
        architecture = Architecture.model_validate(content)
        architecture.specs()
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise ArchitectureError(f"{path}: {where}: {first['msg']}") from None
    except FbError as error:
        raise ArchitectureError(f"{path}: {error}") from None
    return architecture


def load_space_of(name: str) -> Space:
    """Return a search space by name or .toml file, or that of one network: published, or in a .json file.

    Raises SpaceError, UnknownNameError, ArchitectureError.
    """
    return load_architecture(name).load_space() if is_network(name) else load_space(name)


def is_network(name: str) -> bool:
    """Whether a name that stands for a space is that of one network."""
    return name.endswith(".json") or (name not in SPACES and name in ZOO)
