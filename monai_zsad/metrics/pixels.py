"""Ranking of pixels or voxels over a set, in memory that does not grow with the set, or exactly."""

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

    MONAI's ``ROCAUCMetric`` and ``AveragePrecisionMetric`` keep and sort every value, in a loop of Python: minutes and
    gigabytes for a validation set; the other two it lacks. Here all images become three histograms of float64, 200 kB
    by default: normal pixels, anomalous ones, and these by their share of their region. Pixels of one bin count as
    equal; :meth:`bounds` says how far that may be from the exact value. Processes that share the work are summed.

    Takes maps (B, 1, H, W) or (B, 1, X, Y, Z) and masks of the same shape, above 0 where anomalous; or lists
    of them without the first axis, which may differ in shape. Regions, for AUPRO, are those of the plane or of space.
    Every ranking metric can be read from :meth:`curve`. For the metric of each class, as papers give it, use one object
    per class.

    Args:
        metric: ``"auroc"``, ``"average_precision"``, ``"f1_max"`` or ``"aupro"``.
        bins: number of bins over ``score_range``; None keeps every pixel, at 16 bytes each, and is exact.
        score_range: ends of the bins; scores beyond count in the outermost.
        limit: of the false positive rate, for ``"aupro"``.

    Raises:
        ConfigurationError: for another metric, or values out of range; later, for maps that do not fit.

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
        """Histograms (1, 3 bins) of one image, or its pixels (n, 2): score, and share of a region, 0 where normal."""
        values, anomalous = scored(*items_of(scores, truth, (2, 3)))
        if self.bins is not None:
            return histogram_rows(values, anomalous, self.bins, self.score_range, regions=True).reshape(1, -1)
        shares = np.zeros(values.shape)
        shares[anomalous] = region_shares(anomalous)
        return np.stack([values.ravel(), shares.ravel()], axis=1)

    def curve(self) -> RankingCurve:
        """The curve of all images, from which every ranking metric can be read.

        Raises:
            ConfigurationError: no image was given.
        """
        rows = self.gathered()
        if self.bins is not None:
            return histogram_curve(rows.reshape(3, self.bins), self.score_range, self.undefined())
        scores, shares = rows.T
        return curve_of(scores[~(shares > 0)], scores[shares > 0], shares[shares > 0], self.undefined())

    def aggregate(self) -> float:
        """The metric over all images; NaN, with a warning, without anomalous or normal pixels, or if not finite."""
        return self.curve().value(self.metric, self.limit)

    def bounds(self) -> tuple[float, float]:
        """Bounds of the exact value, see :meth:`RankingCurve.bounds`; NaN, with a warning, if the metric is NaN."""
        if self.bins is None:
            return (exact := self.aggregate()), exact
        return self.curve().bounds(self.metric, self.limit)
