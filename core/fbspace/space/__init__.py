"""Search spaces: what a space is (`space`), and how its file is read (`file`)."""

from fbspace.space.file import SPACES, load_space
from fbspace.space.space import Decision, Layer, Space

__all__ = ["SPACES", "Decision", "Layer", "Space", "load_space"]
