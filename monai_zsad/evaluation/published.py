"""Published values of metrics, from papers and releases, for comparison with the measured values.

The values are stated in ``published.yaml`` only.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

__all__ = ["PublishedMetric", "published_metrics", "published_title"]


@dataclass(frozen=True)
class PublishedMetric:
    """One published value.

    Attributes:
        benchmark: name of the set, see :func:`monai_zsad.data.benchmarks.get_benchmark`.
        method: key of the method, for example ``"crane"``.
        metric: name of the metric, for example ``"image_auroc"``. Its value is the mean over the set's classes.
        percent: the value in percent, as printed.
        source: paper or release that states it.
        note: a remark on the source.
    """

    benchmark: str
    method: str
    metric: str
    percent: float
    source: str
    note: str = ""


def published_metrics(benchmark: str | None = None, method: str | None = None) -> list[PublishedMetric]:
    """All published values for a set, a method, or both.

    Example:
        >>> [(one.metric, one.percent) for one in published_metrics("headct", "crane")]
        [('image_auroc', 95.3), ('image_average_precision', 95.7), ('image_f1_max', 91.1)]
    """
    return [
        one
        for one in _all_metrics()
        if (benchmark is None or one.benchmark == benchmark) and (method is None or one.method == method)
    ]


def published_title(method: str) -> str:
    """Name of a method as papers print it.

    >>> published_title("crane_plus"), published_title("tiny_screening")
    ('Crane+', 'tiny_screening')
    """
    return str(_content()["titles"].get(method, method))


@functools.cache
def _content() -> Mapping[str, Any]:
    import yaml

    return yaml.safe_load(
        files("monai_zsad.evaluation").joinpath("data").joinpath("published.yaml").read_text(encoding="utf-8")
    )


@functools.cache
def _all_metrics() -> tuple[PublishedMetric, ...]:
    content = _content()
    found = []
    for table in content["tables"]:
        source = content["sources"][table["source"]]
        for benchmark, cells in table["values"].items():
            for method, cell in zip(table["methods"], cells, strict=True):
                for metric, percent in _numbers(table["metrics"], str(cell)):
                    found.append(
                        PublishedMetric(benchmark, method, metric, percent, source["title"], source.get("note", ""))
                    )
    return tuple(found)


def _numbers(metrics: Sequence[str], cell: str) -> list[tuple[str, float]]:
    return [(metric, float(text)) for metric, text in zip(metrics, cell.split("/"), strict=True) if text != "-"]
