"""Metrics of the ranking of pixels or voxels over a set: exact, or with memory that does not grow with the set."""

from __future__ import annotations

import numpy as np

from monai_zsad.metrics.curves import RankingCurve, RankingName, check_limit, check_ranking_name
from monai_zsad.metrics.gathered import GatheredMetric, items_of
from monai_zsad.metrics.histograms import bin_edges, histogram_curve, histogram_rows
from monai_zsad.metrics.ranking import curve_of
from monai_zsad.metrics.values import region_shares, scored

__all__ = ["PixelRankingMetric"]


class PixelRankingMetric(GatheredMetric):
    """AUROC, average precision, F1-max or AUPRO of all pixels of all images together.

    MONAI's ``ROCAUCMetric`` and ``AveragePrecisionMetric`` keep every value and loop over them in Python. This takes
    minutes and gigabytes for a validation set. MONAI does not have the other two metrics. Here all images are summed
    into three histograms of float64, by default 200 kB: normal pixels, anomalous pixels, and :func:`region_shares` of
    anomalous pixels. Pixels in one bin count as equal. :meth:`bounds` gives bounds of the exact value. Histograms of
    all processes are summed.

    The inputs are maps (B, 1, H, W) or (B, 1, X, Y, Z) and masks of the same shape, above 0 where anomalous. Lists of
    them without the first axis work too, and their shapes may differ. For AUPRO, regions are in 2D for images and in 3D
    for volumes. :meth:`curve` gives every ranking metric. For the metric of each class, as in papers, use one object
    per class.

    Args:
        metric: ``"auroc"``, ``"average_precision"``, ``"f1_max"`` or ``"aupro"``.
        bins: number of bins over ``score_range``. None keeps every pixel, with 16 bytes each, and is exact.
        score_range: lower and upper end of the bins. Scores outside count in the outermost bins.
        limit: false positive rate up to which AUPRO is integrated.

    Raises:
        ConfigurationError: the metric is unknown or a value is out of range. When the metric is called: shapes do not
            fit.

    Example:
        >>> import torch
        >>> metric = PixelRankingMetric("auroc")
        >>> scores, mask = torch.tensor([[[[0.1, 0.2, 0.9]]]]), torch.tensor([[[[0.0, 1.0, 1.0]]]])
        >>> _ = metric(scores, mask)
        >>> metric.aggregate(), metric.bounds()
        (1.0, (1.0, 1.0))
        >>> round(metric.curve().f1_max().threshold, 3)
        0.2
    """

    def __init__(
        self,
        metric: RankingName = "average_precision",
        bins: int | None = 8192,
        score_range: tuple[float, float] = (0.0, 1.0),
        limit: float = 0.3,
    ) -> None:
        check_ranking_name(metric)
        check_limit(limit)
        if bins is not None:
            bin_edges(bins, score_range)
        super().__init__(2 if bins is None else 3 * bins, summed=bins is not None)
        self.metric: RankingName = metric
        self.bins = bins
        self.score_range = score_range
        self.limit = limit

    def rows_of(self, scores: np.ndarray, truth: np.ndarray, **_: np.ndarray) -> np.ndarray:
        """Histograms (1, 3 bins) of one image, or its pixels (n, 2): score and region share (0 if normal)."""
        values, anomalous = scored(*items_of(scores, truth, (2, 3)))
        if self.bins is not None:
            return histogram_rows(values, anomalous, self.bins, self.score_range, regions=True).reshape(1, -1)
        shares = np.zeros(values.shape)
        shares[anomalous] = region_shares(anomalous)
        return np.stack([values.ravel(), shares.ravel()], axis=1)

    def curve(self) -> RankingCurve:
        """The curve of all images. It gives every ranking metric.

        Raises:
            ConfigurationError: no image was given.
        """
        rows = self.gathered()
        if self.bins is not None:
            return histogram_curve(rows.reshape(3, self.bins), self.score_range, self.undefined())
        scores, shares = rows.T
        return curve_of(scores[~(shares > 0)], scores[shares > 0], shares[shares > 0], self.undefined())

    def aggregate(self) -> float:
        """The metric over all images. NaN, with a warning, if all pixels have one label or a score is not finite."""
        return self.curve().value(self.metric, self.limit)

    def bounds(self) -> tuple[float, float]:
        """Bounds of the exact value, see :meth:`RankingCurve.bounds`. NaN, with a warning, if the metric is NaN."""
        if self.bins is None:
            return (exact := self.aggregate()), exact
        return self.curve().bounds(self.metric, self.limit)
