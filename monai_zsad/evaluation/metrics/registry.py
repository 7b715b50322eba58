"""All metrics of an evaluation, one entry each. Tables, page and documentation read this list.

To add a metric, write its function in :mod:`monai_zsad.metrics` and add an entry to ``_ENTRIES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from monai_zsad.metrics import (
    BestThreshold,
    DiceMaxMetric,
    FrocMetric,
    GatheredMetric,
    ImageRankingMetric,
    LesionFroc,
    PixelRankingMetric,
    RankingCurve,
    ScoreCalibrationMetric,
    SliceRankingMetric,
    aupro_released,
    auroc,
    average_precision,
    dice_max,
    expected_calibration_error,
    f1_max,
)
from monai_zsad.metrics.curves import RankingName

__all__ = ["METRICS", "SLICE_QUANTILE", "Level", "Metric", "Samples", "metric_table", "metrics_of"]

Level = Literal["image", "pixel", "volume", "voxel", "slice", "lesion"]
Samples = Literal["scores", "curve", "maps", "froc"]
SliceScore = Literal["maximum", "quantile", "own"]

SLICE_QUANTILE = 0.995
"""For ``slice_auroc_quantile``, the score of a slice is this quantile of its map."""


@dataclass(frozen=True)
class Metric:
    """One metric of an evaluation.

    Attributes:
        name: name in CSV and JSON.
        title: title in Markdown and on the page.
        level: what is ranked or found: ``"image"`` and ``"pixel"`` for sets of images, the others for volumes.
        samples: arguments of ``function``. ``"scores"``: scores (n,) and labels (n,). ``"curve"``: a
            :class:`~monai_zsad.metrics.RankingCurve` of all pixels or voxels, and the false positive rate up to which
            AUPRO is integrated. ``"maps"``: a list of maps and a list of masks; the metric is left out if there are
            too many pixels to keep in memory. ``"froc"``: a :class:`~monai_zsad.metrics.LesionFroc`.
        function: returns a value, or a :class:`~monai_zsad.metrics.BestThreshold`.
        higher_is_better: whether a higher value is better.
        bootstrapped: whether it gets a confidence interval. Metrics of ``"maps"`` never get one.
        probabilities: whether it needs scores in [0, 1]. It is left out if a score lies outside.
        slice_score: for metrics of slices, the score of a slice: the maximum of its map, the quantile
            :data:`SLICE_QUANTILE` of its map, or the network's own score.
        bounds: for metrics of ``"curve"``, the least and the largest value that the exact metric can have if the
            curve comes from histograms.
        published_as: name of the published metric that it is compared with, if the name differs.
        streaming: makes the metric for a MONAI evaluator, which updates it batch by batch.
    """

    name: str
    title: str
    level: Level
    samples: Samples
    function: Callable[..., float | BestThreshold]
    higher_is_better: bool = True
    bootstrapped: bool = True
    probabilities: bool = False
    slice_score: SliceScore = "maximum"
    bounds: Callable[[RankingCurve, float], tuple[float, float]] | None = None
    published_as: str = ""
    streaming: Callable[[], GatheredMetric] | None = None

    def value(self, *samples: Any) -> float:
        """The value alone, without the threshold that gives it."""
        found = self.function(*samples)
        return float(found[0] if isinstance(found, tuple) else found)


def _ranking(level: Level, name: RankingName, title: str) -> Metric:
    def value(curve: RankingCurve, limit: float) -> float | BestThreshold:
        return curve.f1_max() if name == "f1_max" else curve.value(name, limit)

    def bounds(curve: RankingCurve, limit: float) -> tuple[float, float]:
        return curve.bounds(name, limit)

    streaming = partial(PixelRankingMetric, name)
    return Metric(f"{level}_{name}", title, level, "curve", value, bounds=bounds, streaming=streaming)


def _sensitivity(rate: int) -> Metric:
    def value(froc: LesionFroc) -> float:
        return froc.at(rate)

    title = f"sensitivity at {rate} FP"
    streaming = partial(FrocMetric, rates=(rate,))
    return Metric(f"sensitivity_at_{rate}", title, "lesion", "froc", value, streaming=streaming)


_ENTRIES = (
    Metric("image_auroc", "image AUROC", "image", "scores", auroc, streaming=ImageRankingMetric),
    Metric(
        "image_average_precision",
        "image AP",
        "image",
        "scores",
        average_precision,
        streaming=partial(ImageRankingMetric, "average_precision"),
    ),
    Metric("image_f1_max", "image F1-max", "image", "scores", f1_max, streaming=partial(ImageRankingMetric, "f1_max")),
    Metric(
        "image_calibration_error",
        "image ECE",
        "image",
        "scores",
        expected_calibration_error,
        higher_is_better=False,
        probabilities=True,
        streaming=ScoreCalibrationMetric,
    ),
    _ranking("pixel", "auroc", "pixel AUROC"),
    _ranking("pixel", "average_precision", "pixel AP"),
    _ranking("pixel", "f1_max", "pixel F1-max"),
    _ranking("pixel", "aupro", "pixel AUPRO"),
    # Papers print the AUPRO of their releases.
    Metric(
        "pixel_aupro_released",
        "pixel AUPRO as released",
        "pixel",
        "maps",
        aupro_released,
        bootstrapped=False,
        published_as="pixel_aupro",
    ),
    Metric("pixel_dice_max", "Dice-max", "pixel", "maps", dice_max, bootstrapped=False, streaming=DiceMaxMetric),
    _ranking("voxel", "auroc", "voxel AUROC"),
    _ranking("voxel", "average_precision", "voxel AP"),
    _ranking("voxel", "f1_max", "best Dice"),
    _ranking("voxel", "aupro", "voxel AUPRO"),
    Metric(
        "voxel_dice_max",
        "Dice-max of one threshold",
        "voxel",
        "maps",
        dice_max,
        bootstrapped=False,
        streaming=DiceMaxMetric,
    ),
    Metric("slice_auroc", "slice AUROC (maximum)", "slice", "scores", auroc, streaming=SliceRankingMetric),
    Metric(
        "slice_auroc_quantile",
        "slice AUROC (99.5 %)",
        "slice",
        "scores",
        auroc,
        slice_score="quantile",
        streaming=partial(SliceRankingMetric, quantile=SLICE_QUANTILE),
    ),
    Metric("slice_auroc_own", "slice AUROC (own score)", "slice", "scores", auroc, slice_score="own"),
    *(_sensitivity(rate) for rate in (1, 4, 8)),
    Metric(
        "mean_sensitivity",
        "mean sensitivity (FROC)",
        "lesion",
        "froc",
        LesionFroc.mean_sensitivity,
        streaming=FrocMetric,
    ),
    Metric("volume_auroc", "volume AUROC", "volume", "scores", auroc, streaming=ImageRankingMetric),
    Metric(
        "volume_average_precision",
        "volume AP",
        "volume",
        "scores",
        average_precision,
        streaming=partial(ImageRankingMetric, "average_precision"),
    ),
)

METRICS: Mapping[str, Metric] = MappingProxyType({one.name: one for one in _ENTRIES})
"""All metrics by name, in the order of the tables."""


def metrics_of(level: Level, samples: Samples) -> list[Metric]:
    """The metrics of a level that take the same samples, in the order of the tables.

    >>> [metric.name for metric in metrics_of("pixel", "maps")]
    ['pixel_aupro_released', 'pixel_dice_max']
    """
    return [one for one in METRICS.values() if (one.level, one.samples) == (level, samples)]


def metric_table() -> str:
    """All metrics as a Markdown table, for documentation.

    >>> print(metric_table().splitlines()[2])
    | `image_auroc` | image AUROC | images | higher | yes |
    """
    rows = [["name", "title", "of", "better", "95 % interval"], ["---"] * 5]
    rows += [
        [
            f"`{one.name}`",
            one.title,
            f"{one.level}s",
            "higher" if one.higher_is_better else "lower",
            "yes" if one.bootstrapped else "no",
        ]
        for one in METRICS.values()
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
