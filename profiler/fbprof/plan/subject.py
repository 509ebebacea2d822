"""Subject: what is timed, a single operator, a whole network, or a reference that tells the device's speed."""

from collections.abc import Sequence
from dataclasses import dataclass

from fbexport.export import export_chain, export_spec
from fbprof.errors import JournalError
from fbspace.errors import ArchitectureError
from fbspace.opspec import OpSpec
from fbspace.space import Space

_NETWORK, _REFERENCE = "network:", "reference:"
REFERENCE_PRECISION = "float32"
"""Every runtime has kernels for it, and tables of other precisions can be held against it."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An operator, a network or a reference; `key` names it in journals and to the agent.

    `specs` are the operators it runs, one or a network's in order, without identities.
    """

    key: str
    specs: tuple[OpSpec, ...]

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the input: 1, channels, height, width."""
        return self.specs[0].input_shape

    def precision(self, asked: str) -> str:
        """Return the precision of its model where a plan asks for one; a reference has always the same."""
        return REFERENCE_PRECISION if self.key.startswith(_REFERENCE) else asked

    def export(self, format_name: str, precision: str, seed: int) -> bytes:
        """Return its model file; an operator has the same weights in a network as alone. Raises ExportError."""
        if is_network_key(self.key):
            return export_chain(self.specs, format_name, precision, seed)
        return export_spec(self.specs[0], format_name, self.precision(precision), seed)


def operator(spec: OpSpec) -> Subject:
    """Return an operator as a subject."""
    return Subject(spec.key(), (spec,))


def reference(spec: OpSpec) -> Subject:
    """Return an operator as a reference, which has no row in a table."""
    return Subject(_REFERENCE + spec.key(), (spec,))


def network(space: Space, choices: Sequence[str], head_channels: int | None = None) -> Subject:
    """Return a network as a subject. Raises ArchitectureError where it does not fit the space."""
    return Subject(network_key(choices, head_channels), tuple(space.specs(choices, head_channels)))


def is_network_key(key: str) -> bool:
    """Whether a key names a network."""
    return key.startswith(_NETWORK)


def is_operator_key(key: str) -> bool:
    """Whether a key names an operator that has a row in the table, and neither a network nor a reference."""
    return not key.startswith((_NETWORK, _REFERENCE))


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
