"""The report of an evaluation as one HTML file: protocol, scores beside their controls, pictures, error maps."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterator, Mapping

from mmgen_jax.metrics import any_to_any, dense
from mmgen_jax.metrics.examples import Examples
from mmgen_jax.metrics.protocol import said
from mmgen_jax.metrics.report import FROM_RGB, SHUFFLED, Scores
from mmgen_jax.show import gallery, scores

NAMES = {  # of controls
    "round_trip": "autoencoder (ceiling)",
    "mean_image": "mean image (sees nothing)",
    SHUFFLED: "shuffled (of another scene)",
    "generated_shuffled": "generated, shuffled",
    "real": "real scenes",
    "real_shuffled": "real scenes, shuffled",
}
REST = "rgb-rest/"  # of scores of modalities beside what the model predicts of them
PLOTS = ("accuracy", "depth-normal/angle", "boundary/geometry/f", "boundary/rgb/f")  # and headlines of modalities
CAPTIONS = {
    FROM_RGB: "All other modalities from held-out images, without a class. The autoencoder's round trip of the truth "
    "is a ceiling; the mean image of the train split sees nothing; shuffled predictions are of another scene.",
    any_to_any.SECTION: "What is neither given nor made is ignored. The autoencoder is a ceiling; the mean image sees "
    "nothing; shuffled predictions are of another scene.",
    "generation": "Share of samples that an independent classifier recognises, beside held-out images.",
    "consistency": "Whether modalities describe the same scene, beside real scenes and modalities that do not belong "
    "together.",
}


def page(title: str, report: Mapping, examples: Examples) -> bytes:
    """An HTML file without outside requests.

    Args:
      title: its heading.
      report: what `python -m mmgen_jax.evaluate` writes as JSON, with its `protocol`.
      examples: pictures of the same evaluation.
    """
    numbers, spread = itertools.count(), report.get("spread", {})
    parts = [_card("Protocol", "", scores.facts(said(report["protocol"])))]
    parts += _understanding(report, examples, numbers)
    parts += _pairs(report.get(any_to_any.SECTION, {}), spread.get(any_to_any.SECTION, {}), examples, numbers)
    for section in ("generation", "consistency"):
        if columns := report[section]:
            parts.append(_card(section, CAPTIONS[section], _scores(columns, spread.get(section))))
        if section == "generation":
            parts += [gallery.card(next(numbers), s) for s in examples.samples()]
    caption = "Arrows say whether more or less is better. Click a picture to enlarge it."
    return gallery.document(title, "".join(parts), caption, scores.STYLE)


def _understanding(report: Mapping, examples: Examples, numbers: Iterator[int]) -> list[str]:
    """Predictions from rgb."""
    spread = report.get("spread", {}).get("understanding")
    card = _card(FROM_RGB, CAPTIONS[FROM_RGB], _scores(report["understanding"], spread))
    return [card, *(gallery.card(next(numbers), s) for s in examples.sections(FROM_RGB))]


def _pairs(pairs: Scores, spread: Scores, examples: Examples, numbers: Iterator[int]) -> list[str]:
    """A card for each modality that is made, with all that it is made from, and pictures of each pair."""
    parts = []
    for m in dict.fromkeys(metric.split("/")[0] for metric in pairs):
        columns, title = _made(pairs, m), f"{any_to_any.SECTION}: {m}"
        parts.append(_card(title, CAPTIONS[any_to_any.SECTION], _scores(columns, _made(spread, m))))
        for name in (name for name in columns if not _is_control(name)):
            parts += [gallery.card(next(numbers), s) for s in examples.sections(name)]
    return parts


def _made(pairs: Scores, m: str) -> Scores:
    """Column -> score -> value of one modality, from score -> column -> value of all."""
    own = {metric: values for metric, values in pairs.items() if metric.split("/")[0] == m}
    names = dict.fromkeys(name for values in own.values() for name in values)
    return {name: {k: values[name] for k, values in own.items() if name in values} for name in names}


def _is_control(name: str) -> bool:
    return name in NAMES or name.endswith(any_to_any.SHUFFLED)


def _card(title: str, caption: str, body: str) -> str:
    below = f"<p>{html.escape(caption)}</p>" if caption else ""
    return f"<section><h2>{html.escape(title)}</h2>{below}{body}</section>"


def _scores(columns: Scores, spread: Scores | None) -> str:
    """Bars of the scores that say most, where there are others than controls, and a table of all."""
    controls = tuple(filter(_is_control, columns))
    found = {metric for name, column in columns.items() if name not in controls for metric in column}
    chosen = [*(metric for metric in PLOTS if metric in found), *dense.headlines(found), *dense.headlines(found, REST)]
    charts = [scores.bars(metric, columns, NAMES, controls, spread) for metric in chosen]
    plots = f'<div class="plots">{"".join(charts)}</div>' if charts else ""
    table = scores.table(columns, NAMES, spread)
    return f"{plots}<details open><summary>all scores</summary>{table}</details>"
