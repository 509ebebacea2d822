"""A table as a pandas frame."""

import pandas as pd

from fblut.table import Lut
from fblut.writing import COLUMNS, cells

_NUMBERS = ["expansion", *(name for name in COLUMNS if name.endswith("_us"))]


def to_frame(lut: Lut) -> pd.DataFrame:
    """Return the rows with the columns of the file, indexed by key; what is not known is NaN."""
    frame = pd.DataFrame([cells(row) for row in lut.rows.values()], columns=list(COLUMNS))
    frame[_NUMBERS] = frame[_NUMBERS].apply(pd.to_numeric, errors="coerce")
    return frame.set_index("key")
