"""An evaluation as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from monai_zsad.evaluation.plots import case_picture, chosen_cases, curve_plot, score_histogram
from monai_zsad.evaluation.published import published_title
from monai_zsad.evaluation.tables import Table
from monai_zsad.writers import SEEDED_WARNING
from monai_zsad.writers.page import alarm, decimal, facts, heading, page, section, table

__all__ = ["evaluation_page"]


def evaluation_page(made: Table, files: Mapping[str, Path]) -> str:
    """The page: tables, curves, histograms of scores, and cases worth a look.

    Args:
        made: the table.
        files: case to its prediction.
    """
    title = f"{made.title}, {published_title(made.method)}"
    body = [heading("Evaluation", title)]
    if made.seeded:
        body.append(alarm(f"NOT A RESULT: {SEEDED_WARNING}"))
    if made.missing:
        body.append(alarm(f"{made.missing} of {len(made.run['cases'])} cases have no prediction and are left out"))
    body.append(section(made.main_words(), _table(*made.summary())))
    head, rows = made.by_scope()
    if rows:
        body.append(section(made.scope_words(), _table(head, rows)))
    found = made.findings
    plots = [(kind, curve_plot(kind, curves)) for kind, curves in found.curves.items()]
    plots += [(f"scores of {what}", score_histogram(*pair, what)) for what, pair in found.scores.items()]
    body.append('<div class="columns">' + "\n".join(section(kind, _image(kind, uri)) for kind, uri in plots) + "</div>")
    for kind, chosen in chosen_cases(found.cases).items():
        figures = [
            _captioned(
                f"{case.case}: score {decimal(case.score)}"
                + ("" if case.quality != case.quality else f", average precision {decimal(case.quality)}"),
                case_picture(files[case.case]),
            )
            for case in chosen
        ]
        body.append(section(kind[0].upper() + kind[1:], *figures))
    head, rows = made.others()
    if rows:
        body.append(section("Published by others on this set, percent", _table(head, rows)))
    lines = "".join(f"<li>{escape(line)}</li>" for line in made.notes())
    body.append(section("How", f"<ul>{lines}</ul>"))
    protocol = {key: value for key, value in made.run["protocol"].items() if value not in (None, "", [], {})}
    parts = [section("Protocol", facts(protocol)), section("Model", facts(made.run["model"]))]
    body.append('<div class="columns">' + "\n".join(parts) + "</div>")
    return page(f"{title}: evaluation", body)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(head, [[escape(cell) for cell in row] for row in rows], numeric=1)


def _image(words: str, uri: str) -> str:
    return f'<img alt="{escape(words)}" src="{uri}">'


def _captioned(words: str, uri: str) -> str:
    return f"<figure><figcaption>{escape(words)}</figcaption>{_image(words, uri)}</figure>"
