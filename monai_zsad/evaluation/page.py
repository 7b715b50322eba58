"""One HTML page for an evaluation. The page needs no other files and no network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from monai_zsad.evaluation.metrics.estimates import CaseSummary
from monai_zsad.evaluation.plots import case_picture, chosen_cases, curve_plot, score_histogram
from monai_zsad.evaluation.published import published_title
from monai_zsad.evaluation.tables import Table
from monai_zsad.writers import SEEDED_WARNING
from monai_zsad.writers.pages.values import decimal, render

__all__ = ["evaluation_page"]


def evaluation_page(made: Table, files: Mapping[str, Path]) -> str:
    """Make the page: tables, curves, histograms of scores, and the cases with the best and the worst results.

    Args:
        made: table of the evaluation.
        files: files of the predictions, by case.

    Returns:
        The HTML.
    """
    alarms = [f"NOT A RESULT: {SEEDED_WARNING}"] if made.seeded else []
    if made.missing:
        alarms.append(f"{made.missing} of {len(made.run['cases'])} cases have no prediction and are left out")
    tables = [(made.main_words(), *made.summary())]
    scopes = made.by_scope()
    if scopes[1]:
        tables.append((made.scope_words(), *scopes))
    found = made.findings
    others = made.others()
    values = {
        "title": f"{made.title}, {published_title(made.method)}",
        "alarms": alarms,
        "tables": tables,
        "plots": [
            *((kind, curve_plot(kind, curves)) for kind, curves in found.curves.items()),
            *((f"scores of {what}", score_histogram(*pair, what)) for what, pair in found.scores.items()),
        ],
        "cases": [
            (kind[0].upper() + kind[1:], [(_caption(case), case_picture(files[case.case])) for case in chosen])
            for kind, chosen in chosen_cases(found.cases).items()
        ],
        "others": others if others[1] else None,
        "notes": made.notes(),
        "protocol": {key: value for key, value in made.run["protocol"].items() if value not in (None, "", [], {})},
        "model": made.run["model"],
    }
    return render("evaluation.html.j2", values, "monai_zsad.evaluation")


def _caption(case: CaseSummary) -> str:
    quality = "" if math.isnan(case.quality) else f", average precision {decimal(case.quality)}"
    return f"{case.case}: score {decimal(case.score)}{quality}"
