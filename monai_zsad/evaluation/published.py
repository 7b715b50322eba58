"""Figures that papers and releases have published, for the comparison with measured ones.

``published.yaml`` is their one home.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

__all__ = ["PublishedFigure", "published_figures", "published_title"]


@dataclass(frozen=True)
class PublishedFigure:
    """One published number.

    Attributes:
        benchmark: name of the set, see :func:`monai_zsad.data.benchmarks.get_benchmark`.
        method: a key such as ``"crane"``.
        figure: such as ``"image_auroc"``; the mean over the set's classes.
        percent: as printed.
        source: where it stands.
        note: what a reader should know of the source.
    """

    benchmark: str
    method: str
    figure: str
    percent: float
    source: str
    note: str = ""


def published_figures(benchmark: str | None = None, method: str | None = None) -> list[PublishedFigure]:
    """All published figures of a set, of a method, or of both.

    Example:
        >>> [(one.figure, one.percent) for one in published_figures("headct", "crane")]
        [('image_auroc', 95.3), ('image_average_precision', 95.7), ('image_f1_max', 91.1)]
    """
    return [
        one
        for one in _all_figures()
        if (benchmark is None or one.benchmark == benchmark) and (method is None or one.method == method)
    ]


def published_title(method: str) -> str:
    """A method as papers print it.

    >>> published_title("crane_plus"), published_title("tiny_screening")
    ('Crane+', 'tiny_screening')
    """
    return str(_content()["titles"].get(method, method))


@functools.cache
def _content() -> Mapping[str, Any]:
    import yaml

    return yaml.safe_load(files("monai_zsad.evaluation").joinpath("published.yaml").read_text(encoding="utf-8"))


@functools.cache
def _all_figures() -> tuple[PublishedFigure, ...]:
    content = _content()
    found = []
    for table in content["tables"]:
        source = content["sources"][table["source"]]
        for benchmark, cells in table["values"].items():
            for method, cell in zip(table["methods"], cells, strict=True):
                for figure, percent in _numbers(table["figures"], str(cell)):
                    found.append(
                        PublishedFigure(benchmark, method, figure, percent, source["title"], source.get("note", ""))
                    )
    return tuple(found)


def _numbers(figures: Sequence[str], cell: str) -> list[tuple[str, float]]:
    return [(figure, float(text)) for figure, text in zip(figures, cell.split("/"), strict=True) if text != "-"]
