"""Subject: what is timed, an operator, a network, a model file, or a reference that tells the device's speed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from fbagents.agent.client import Input
from fbexport.residual import residual_model
from fbprof.errors import JournalError
from fbspace.errors import ArchitectureError
from fbspace.opspec import OpSpec
from fbspace.space import Space

_NETWORK, _REFERENCE, _MODEL = "network:", "reference:", "model:"
REFERENCE_PRECISION = "float32"
"""Every runtime has kernels for it, and tables of other precisions can be held against it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a model is run where a measurement has several ways: in which runtime, on how many threads, on which cores.

    `cores` is a text that `check_cores` returned; None is wherever the device likes.
    """

    runtime: str
    threads: int = 1
    cores: str | None = None

    def __str__(self) -> str:
        bound = "" if self.cores is None else f", cores {self.cores}"
        return f"{self.runtime}, {self.threads} thread{'s' * (self.threads != 1)}{bound}"


@dataclass(frozen=True, slots=True)
class Subject:
    """An operator, a network or a reference; `key` names it in journals and to the agent.

    `specs` are the operators it runs, one or a network's in order, without identities. `setting` is its own, where
    that is not the plan's.
    """

    key: str
    specs: tuple[OpSpec, ...]
    setting: Setting | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input: 1, channels, height, width."""
        return self.specs[0].input_shape

    def precision(self, asked: str) -> str:
        """Return the precision of its model where a plan asks for one; a reference has always the same."""
        return REFERENCE_PRECISION if self.key.startswith(_REFERENCE) else asked

    def export(self, format_name: str, precision: str, seed: int) -> bytes:
        """Return its model file; an operator has the same weights in a network as alone. Raises ExportError.

        A reference needs no torch, as model files are measured without it.
        """
        if self.key.startswith(_REFERENCE):
            return residual_model(self.specs[0], format_name, seed)
        from fbexport.export import export_chain, export_spec

        if is_network_key(self.key):
            return export_chain(self.specs, format_name, precision, seed)
        return export_spec(self.specs[0], format_name, precision, seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSubject(Subject):
    """A model file that anyone wrote, all of whose inputs have fixed shapes, with a setting of its own.

    `values` are the raw bytes of its inputs, one after the other; None is the agents' test input. `macs` is None where
    they cannot be counted.
    """

    specs: tuple[OpSpec, ...] = ()
    setting: Setting
    content: bytes
    suffix: str
    inputs: tuple[Input, ...]
    macs: int | None = None
    values: bytes | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first input."""
        return self.inputs[0].shape if self.inputs else ()

    @property
    def hint(self) -> str:
        """What may help where it cannot be run, to be said after the reason."""
        made_up = bool(self.inputs) and self.values is None
        return "; its inputs were made up, and --inputs FILE.npz gives real ones" if made_up else ""

    @property
    def digest(self) -> str:
        """A hash of what is run and how: by it a journal knows whether it goes on with the same."""
        told = f"{self.key}\n{self.setting}\n{self.inputs}\n".encode()
        return hashlib.sha256(told + self.content + (self.values or b"")).hexdigest()

    def precision(self, asked: str) -> str:
        """Return the precision for which other kernels are looked for: none, a file is what its author meant."""
        return REFERENCE_PRECISION

    def export(self, format_name: str, precision: str, seed: int) -> bytes:
        """Return the file as it is."""
        return self.content


def model_key(name: str) -> str:
    """Return the key of a model file that a run knows by a name."""
    return _MODEL + name


def model_name(key: str) -> str | None:
    """Return the name of the model file that a key names, None where it names something else."""
    return key.removeprefix(_MODEL) if key.startswith(_MODEL) else None


def operator(spec: OpSpec) -> Subject:
    """Return an operator as a subject."""
    return Subject(spec.key(), (spec,))


def reference(spec: OpSpec) -> Subject:
    """Return a plain inverted residual as a reference, which has no row in a table."""
    return Subject(_REFERENCE + spec.key(), (spec,))


def network(space: Space, choices: Sequence[str], head_channels: int | None = None) -> Subject:
    """Return a network as a subject. Raises ArchitectureError where it does not fit the space."""
    return Subject(network_key(choices, head_channels), tuple(space.specs(choices, head_channels)))


def is_network_key(key: str) -> bool:
    """Whether a key names a network."""
    return key.startswith(_NETWORK)


def is_operator_key(key: str) -> bool:
    """Whether a key names an operator that has a row in the table, and neither a network, a model nor a reference."""
    return not key.startswith((_NETWORK, _REFERENCE, _MODEL))


def network_key(choices: Sequence[str], head_channels: int | None = None) -> str:
    """Return a network's key, e.g. `network:k3_e1,skip,k5_e6` or `network:k3_e1,skip,k5_e6@1504`."""
    return _NETWORK + ",".join(choices) + (f"@{head_channels}" if head_channels else "")


def network_specs(key: str, space: Space) -> list[OpSpec]:
    """Return the operators of the network that a key names, without identities. Raises JournalError."""
    choices, _, head = key.removeprefix(_NETWORK).partition("@")
    try:
        return space.specs(choices.split(","), int(head) if head else None)
    except (ArchitectureError, ValueError) as error:
        raise JournalError(f"{key} is no network of space {space.name}: {error}") from None
