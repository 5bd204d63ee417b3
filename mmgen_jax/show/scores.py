"""Scores as HTML: tables, and bars as SVG that keep their text readable on narrow screens, for a `gallery.document`."""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Mapping

Columns = Mapping[str, Mapping[str, float]]  # column -> score -> value
LESS = ("absrel", "rmse", "log10", "silog", "l1", "mean", "median", "angle")  # scores that are errors: less is better
NEUTRAL = ("pixels",)  # neither is better
NAMED = ("iou", "accuracy")  # scores of what a data set names, as it likes; more is better
ROW = 38  # pixels from one bar to the next

STYLE = """
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 14px 0 0; }
.facts dt { color: var(--muted); } .facts dd { margin: 0; overflow-wrap: anywhere; }
.scores { border-spacing: 0; margin: 0; } .scores th, .scores td { padding: 3px 12px;
  border-bottom: 1px solid var(--line); text-align: right;
  font-variant-numeric: tabular-nums; font-size: 13px; white-space: nowrap; }
.scores tbody th { text-align: left; color: var(--ink); }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(260px, 100%), 1fr)); gap: 20px 32px;
  margin-top: 16px; }
.plots figure { margin: 0; } .plots figcaption { font-size: 13px; font-weight: 500; }
.plots text { fill: var(--ink); font-size: 12px; } .plots .back { fill: var(--line); }
.plots .bar { fill: var(--muted); } .plots .model { fill: var(--given); }
details { margin-top: 14px; } summary { cursor: pointer; color: var(--muted); font-size: 13px; }
@media (max-width: 640px) { .facts { grid-template-columns: 1fr; gap: 0; } .facts dd { margin-bottom: 8px; } }
"""


def sense(metric: str) -> str:
    """An arrow up where more of a score is better, down where less is, nothing where neither is."""
    *_, before, last = "", *metric.split("/")
    return "\u2191" if before in NAMED else "" if last in NEUTRAL else "\u2193" if last in LESS else "\u2191"


def facts(entries: Mapping[str, object]) -> str:
    """Names and what is said of them, as a list of two columns."""
    rows = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd>" for name, value in entries.items())
    return f'<dl class="facts">{"".join(rows)}</dl>'


def table(columns: Columns, names: Mapping[str, str], spread: Columns | None = None) -> str:
    """A row for each score and a column for each entry, as `names` calls it; a dash means no number.

    `spread` has the standard deviations of the same scores, where there are several seeds.
    """
    metrics = list(dict.fromkeys(metric for column in columns.values() for metric in column))
    heads = "".join(f"<th>{html.escape(names.get(name, name))}</th>" for name in columns)
    rows = (
        f"<tr><th>{html.escape(metric)} {sense(metric)}</th>"
        + "".join(f"<td>{number(metric, name, columns, spread)}</td>" for name in columns)
        + "</tr>"
        for metric in metrics
    )
    head = f"<thead><tr><th></th>{heads}</tr></thead>"
    return f'<div class="scroll"><table class="scores">{head}<tbody>{"".join(rows)}</tbody></table></div>'


def number(metric: str, name: str, columns: Columns, spread: Columns | None = None) -> str:
    """A score as it is printed: four decimals, or a dash for none, and its standard deviation if there are any."""

    def text(found: Columns) -> str:
        value = found.get(name, {}).get(metric, math.nan)
        return "-" if math.isnan(value) else f"{value:.4f}"

    mean = text(columns)
    return f"{mean} \u00b1 {text(spread)}" if spread and mean != "-" else mean


def bars(
    metric: str, columns: Columns, names: Mapping[str, str], controls: Collection[str], spread: Columns | None = None
) -> str:
    """A bar for a score of each column that has it, from 0 to the largest; `controls` are grey, the model is not."""
    values = {name: column.get(metric, math.nan) for name, column in columns.items()}
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    top = max((0, *known.values())) or 1
    parts = []
    for i, (name, value) in enumerate(known.items()):
        kind, y, width = "bar" if name in controls else "model", i * ROW, 100 * max(value, 0) / top
        parts.append(
            f'<text x="0" y="{y + 14}">{html.escape(names.get(name, name))}</text>'
            f'<text x="100%" y="{y + 14}" text-anchor="end">{number(metric, name, columns, spread)}</text>'
            f'<rect class="back" x="0" y="{y + 20}" width="100%" height="8" rx="4"/>'
            f'<rect class="{kind}" x="0" y="{y + 20}" width="{width:.2f}%" height="8" rx="4"/>'
        )
    label = html.escape(f"{metric} {sense(metric)}")
    chart = f'<svg role="img" aria-label="{label}" width="100%" height="{ROW * len(known)}">{"".join(parts)}</svg>'
    return f"<figure><figcaption>{label}</figcaption>{chart}</figure>"
