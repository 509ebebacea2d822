"""Search spaces: what a space is (`space`), what is decided in it (`decisions`), and how its file is read (`file`)."""

from fbspace.space.decisions import Decision, Layer
from fbspace.space.file import SPACES, load_space
from fbspace.space.space import Space

__all__ = ["SPACES", "Decision", "Layer", "Space", "load_space"]
