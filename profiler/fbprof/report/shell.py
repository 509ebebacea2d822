"""Shell: what the pages of a report have in common: a template with its style, and the parts of their first screen."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from fbbase.shown import escaped

LONGEST_NAME = 160
"""Characters of a name of others that a page shows."""
_KINDS = {"good": ("good", "✓"), "do not use": ("bad", "✗")}


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: what it is of, in two parts; its length with the ends of its interval, and both in words."""

    name: str
    about: str
    length: float
    interval: tuple[float, float] | None
    much: str
    more: str


def filled(template: str, parts: Mapping[str, str]) -> str:
    """Return a page, a template of this folder below the head of all, with its `{{NAMES}}` filled in, all at once: no
    part is looked into for names.

    What stands for `PLOTLY` is taken as it is; of the others control characters are spelled out.
    """
    folder = files("fbprof.report")
    known = {**parts, "STYLE": folder.joinpath("style.css").read_text(encoding="utf-8")}
    known = {name: part if name == "PLOTLY" else escaped(part) for name, part in known.items()}
    text = "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in ("head.html", template))
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda match: known[match[1]], text)


def short(name: str) -> str:
    """Return a name of others as markup, no longer than a page has room for."""
    return escape(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…")


def said(text: str) -> str:
    """Return a sentence as markup, in which no option is broken at its hyphens."""
    return re.sub(r"--[a-z][a-z-]*", r'<span class="option">\g<0></span>', escape(text))


def verdict_of(verdict: str, warnings: Sequence[str]) -> str:
    """Return a verdict and its warnings as markup."""
    kind, mark = _KINDS.get(verdict, ("fair", "!"))
    items = "".join(f"<li>{said(warning)}</li>" for warning in warnings)
    listed = f'<ul class="warnings">{items}</ul>' if items else ""
    return f'<p>verdict: <b class="{kind}">{mark} {escape(verdict)}</b></p>{listed}'


def bars_of(bars: Sequence[Bar]) -> str:
    """Return bars as markup: lengths are relative to the longest, and a thin line is the interval."""
    longest = max((max(each.length, *(each.interval or (0.0,))) for each in bars), default=0.0) or 1.0
    return f'<ol class="bars">{"".join(_bar(each, longest) for each in bars)}</ol>'


def rows_of(rows: Sequence[Sequence[str]], kind: str) -> str:
    """Return a table whose cells are markup, the first of each row its heading; `kind` is its class."""
    lines = "".join(f"<tr><th>{head}</th>{''.join(f'<td>{each}</td>' for each in cells)}</tr>" for head, *cells in rows)
    return f'<div class="scroll"><table class="{kind}">{lines}</table></div>'


def _bar(bar: Bar, longest: float) -> str:
    def percent(length: float) -> str:
        return f"{100 * length / longest:.2f}%"

    line = f'<i style="width:{percent(bar.length)}"></i>'
    if bar.interval is not None:
        low, high = bar.interval
        line += f'<u style="left:{percent(low)};width:{percent(high - low)}"></u>'
    return (
        f'<li><div class="what">{short(bar.name)}</div><div class="much">{escape(bar.much)} <span>{escape(bar.more)}'
        f'</span></div><div class="about">{short(bar.about)}</div><div class="bar">{line}</div></li>'
    )
