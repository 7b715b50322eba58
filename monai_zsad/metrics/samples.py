"""Metrics of the ranking of images, volumes or slices, which have one score each."""

from __future__ import annotations

from typing import Literal

import numpy as np

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics.curves import RankingCurve, check_ranking_name
from monai_zsad.metrics.gathered import GatheredMetric, items_of
from monai_zsad.metrics.ranking import curve_of
from monai_zsad.metrics.values import not_finite, scored

__all__ = ["ImageRankingMetric", "SliceRankingMetric", "slice_scores"]

SampleMetric = Literal["auroc", "average_precision", "f1_max"]
SAMPLE_METRICS: tuple[SampleMetric, ...] = ("auroc", "average_precision", "f1_max")


class ImageRankingMetric(GatheredMetric):
    """AUROC, average precision or F1-max of the scores of images or of volumes. The values are exact.

    MONAI's ``ROCAUCMetric`` and ``AveragePrecisionMetric`` loop over all values in Python, and return a number even if
    a score is NaN. Otherwise their values are the same. MONAI has no F1-max. Two numbers are kept for each image.

    The inputs are scores (B,) or (B, 1, ...), with one value for each image, and truths (B, ...). A truth is a label or
    a mask. With a mask, an image is anomalous if any pixel is.

    Args:
        metric: ``"auroc"``, ``"average_precision"`` or ``"f1_max"``.

    Raises:
        ConfigurationError: the metric is unknown. When the metric is called: an image does not have exactly one score.

    Example:
        >>> import torch
        >>> metric = ImageRankingMetric("f1_max")
        >>> _ = metric(torch.tensor([[0.9], [0.4], [0.6], [0.1]]), torch.tensor([[1], [1], [0], [0]]))
        >>> metric.aggregate(), round(metric.curve().f1_max().threshold, 3)
        (0.8, 0.4)
    """

    def __init__(self, metric: SampleMetric = "auroc") -> None:
        check_ranking_name(metric, SAMPLE_METRICS)
        super().__init__(2, summed=False)
        self.metric: SampleMetric = metric

    def rows_of(self, scores: np.ndarray, truth: np.ndarray, **_: np.ndarray) -> np.ndarray:
        """Score and truth (1, 2) of one image."""
        if scores.size != 1 or not truth.size:
            raise ConfigurationError(
                f"an image with scores of shape {scores.shape} and truth of shape {truth.shape}: give one score for "
                "each image, such as pred[:, 1, :1, :1], and a label or mask"
            )
        if np.isnan(truth).any():
            raise ConfigurationError("truth holds NaN: give 0 where normal, above 0 where anomalous")
        values, anomalous = scored(scores.reshape(1), np.reshape((truth > 0).any(), 1))
        return np.stack([values, anomalous], axis=1)

    def curve(self) -> RankingCurve:
        """The curve of all samples. It gives every ranking metric.

        Raises:
            ConfigurationError: no sample was given.
        """
        scores, truth = self.gathered().T
        return curve_of(scores[~(truth > 0)], scores[truth > 0], undefined=self.undefined())

    def aggregate(self) -> float:
        """The metric over all samples. NaN, with a warning, if all have one label or a score is not finite."""
        return self.curve().value(self.metric)


class SliceRankingMetric(ImageRankingMetric):
    """AUROC, average precision or F1-max of the slices of volumes, along the last axis.

    The inputs are maps (B, 1, X, Y, Z), masks of the same shape, and optionally ``body`` of the same shape.
    :func:`slice_scores` gives the score of a slice. A slice is anomalous if the mask has a voxel inside the body.

    Args:
        metric: ``"auroc"``, ``"average_precision"`` or ``"f1_max"``.
        quantile: see :func:`slice_scores`.
        min_fraction: see :func:`slice_scores`.

    Raises:
        ConfigurationError: see :class:`ImageRankingMetric`.

    Example:
        >>> import torch
        >>> maps, masks = torch.zeros(2, 1, 1, 4, 4, 3)
        >>> maps[..., 1], masks[..., 1, 1, 1] = 1, 1
        >>> metric = SliceRankingMetric()
        >>> _ = metric(maps, masks)
        >>> metric.aggregate()
        1.0
    """

    def __init__(self, metric: SampleMetric = "auroc", quantile: float = 1.0, min_fraction: float = 0.0) -> None:
        super().__init__(metric)
        self.quantile = quantile
        self.min_fraction = min_fraction

    def rows_of(self, scores: np.ndarray, truth: np.ndarray, **others: np.ndarray) -> np.ndarray:
        """Score and truth (n, 2) of the slices of one volume that hold enough of the body."""
        values, anomalous = scored(*items_of(scores, truth, (3,)))
        body = others.get("body")
        inside = np.ones(values.shape, dtype=bool) if body is None else items_of(scores, body, (3,))[1] > 0
        kept, found = slice_scores(values, inside, self.quantile, self.min_fraction)
        return np.stack([found, (anomalous & inside).any((0, 1))[kept]], axis=1)


def slice_scores(
    anomaly: np.ndarray, body: np.ndarray, quantile: float = 1.0, min_fraction: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the slices along the last axis. A score is a quantile of the slice's map inside the body.

    Args:
        anomaly: (X, Y, Z).
        body: (X, Y, Z), above 0 where the map counts.
        quantile: within [0, 1]; 1 is the maximum.
        min_fraction: a slice is left out if less than this fraction of its area is body, or if it has no body.

    Returns:
        Indices of the slices (N,) and their scores (N,). A score is NaN if a map value inside the body is not finite.

    >>> slice_scores(np.arange(8.0).reshape(2, 2, 2), np.ones((2, 2, 2)))
    (array([0, 1]), array([6., 7.]))
    """
    inside = np.asarray(body) > 0
    area = inside.shape[0] * inside.shape[1]
    covered = inside.sum((0, 1))
    indices = np.flatnonzero((covered > 0) & (covered >= min_fraction * area))
    own = (anomaly[..., k][inside[..., k]] for k in indices)
    scores = [float("nan") if not_finite(one) else float(np.quantile(one, quantile)) for one in own]
    return indices, np.array(scores)
