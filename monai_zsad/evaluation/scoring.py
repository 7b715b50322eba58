"""Compute metrics from stored predictions, and write table, curves and page. This needs no network."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_zsad.data.benchmarks import get_benchmark
from monai_zsad.errors import InputError
from monai_zsad.evaluation.metrics import Scoring, image_findings, volume_findings
from monai_zsad.evaluation.page import evaluation_page
from monai_zsad.evaluation.predictions import prediction_file, read_facts, read_run
from monai_zsad.evaluation.protocols import VOLUMES
from monai_zsad.evaluation.tables import Table
from monai_zsad.flags import parse_flag
from monai_zsad.writers import atomic_path

__all__ = ["TABLE_FILES", "score_run"]

TABLE_FILES = ("figures.md", "figures.csv", "figures.json")
PAGE_FILE = "index.html"

_NAMED = 5

_logger = logging.getLogger(__name__)


def score_run(
    output_dir: str | os.PathLike[str], *, partial: bool | str = False, page: bool | str = True, **scoring: Any
) -> Table:
    """Compute all metrics of an evaluation's predictions and write them into the evaluation's folder.

    The files are ``figures.md``, ``figures.csv``, ``figures.json`` and, with ``page``, ``index.html``. They hold no
    date, so the same predictions give the same files.

    Args:
        output_dir: folder of the evaluation.
        partial: leave out cases without a prediction. The table states their number.
        page: whether to write the page with curves and images.
        **scoring: fields of :class:`~monai_zsad.evaluation.Scoring`.

    Returns:
        The table.

    Raises:
        ConfigurationError: a value of ``scoring`` is out of range.
        InputError: the folder does not hold an evaluation, a prediction is damaged, or cases have no prediction.
        OutputError: the files cannot be written.
    """
    chosen = Scoring(**scoring)
    folder = Path(output_dir).expanduser()
    run = read_run(folder)
    files, missing = _files(folder, run, parse_flag("partial", partial))
    benchmark = get_benchmark(run["benchmark"])
    if benchmark.name == VOLUMES:
        findings = volume_findings(list(files.values()), chosen)
    else:
        classes: dict[str, list[Path]] = {}
        for record in run["cases"]:
            if record["case"] in files:
                classes.setdefault(record["class_name"], []).append(files[record["case"]])
        findings = image_findings(classes, run["protocol"], chosen, benchmark.has_masks)
    table = Table(run, findings, chosen, benchmark.title, missing)
    texts = dict(zip(TABLE_FILES, (table.markdown, table.as_csv(), table.as_json()), strict=True))
    if parse_flag("page", page):
        texts[PAGE_FILE] = evaluation_page(table, files)
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    _logger.info("metrics of %d cases: %s", len(files), folder / TABLE_FILES[0])
    return table


def _files(folder: Path, run: Mapping[str, Any], partial: bool) -> tuple[dict[str, Path], int]:
    """Files of the predictions by case, in the order of the set, and the number of cases without a prediction."""
    files: dict[str, Path] = {}
    for record in run["cases"]:
        path = prediction_file(folder, record["case"])
        if path.is_file() and read_facts(path)["run"] == run["run"]:
            files[record["case"]] = path
    missing = len(run["cases"]) - len(files)
    if missing and not partial:
        lacking = [record["case"] for record in run["cases"] if record["case"] not in files]
        named = ", ".join(lacking[:_NAMED]) + (f" and {missing - _NAMED} more" if missing > _NAMED else "")
        raise InputError(
            f"{folder}: {missing} of {len(run['cases'])} cases have no prediction of this run ({named}): give the "
            "evaluation's command again, which tries only these, or score the other cases with `python -m "
            f"monai_zsad score {folder} --partial`"
        )
    if not files:
        raise InputError(f"{folder} holds no prediction of its run: give the evaluation's command again")
    return files, missing
