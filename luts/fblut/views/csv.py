"""For a spreadsheet: a line for every operator of every comparison."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from fbbase.shown import cell
from fblut.views import Section, View

COLUMNS = ("table", "key", "first_us", "second_us", "ratio", "ratio_low", "ratio_high", "significant")


class Csv(View):
    """A line for every operator, by the name of the second table."""

    def render(self, title: str, sections: Sequence[Section], values: Mapping[str, Any]) -> str:
        """Return the lines below the names of their columns."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for comparison in values["comparisons"]:
            for o in comparison["operators"]:
                significant = "" if o["significant"] is None else str(o["significant"]).lower()
                latencies = [o[name] for name in ("key", "first_us", "second_us", "ratio")]
                writer.writerow(
                    [cell(comparison["table"]), *latencies, *(o["ratio_interval"] or ("", "")), significant]
                )
        return text.getvalue().rstrip("\n")
