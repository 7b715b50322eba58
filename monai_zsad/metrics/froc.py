"""FROC over a set of volumes, updated batch by batch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics.gathered import GatheredMetric, items_of
from monai_zsad.metrics.lesions import FROC_RATES, LesionFroc, lesion_froc

__all__ = ["FrocMetric"]


class FrocMetric(GatheredMetric):
    """Mean sensitivity for lesions at given numbers of false positives per volume.

    MONAI's FROC functions take lists of points in one process. Here :func:`lesion_froc` makes candidates from a map and
    matches them with lesions. The counts at each threshold are added up over volumes and processes, so memory does not
    grow with the data. Volumes without lesions contribute their false candidates. The values are exact for the given
    thresholds. With more thresholds they can only rise.

    The inputs are maps (B, 1, X, Y, Z), masks of the same shape, above 0 where there is a lesion, and optionally
    ``body`` of the same shape, above 0 where candidates count. Lists of them without the first axis work too.

    Args:
        thresholds: thresholds on the map's scale; default: 50 evenly spaced values from 0.02 to 1.
        rates: numbers of false positives per volume over which :meth:`aggregate` takes the mean. One is enough.
        min_voxels: see :func:`lesion_froc`.
        min_overlap: see :func:`lesion_froc`.
        min_lesion: see :func:`lesion_froc`.

    Raises:
        ConfigurationError: there are no rates or thresholds. When the metric is called: shapes of the maps do not fit.

    Example:
        >>> import torch
        >>> maps, masks = torch.zeros(2, 1, 1, 9, 9, 9)
        >>> maps[..., 1:4, 1:4, 1:4] = masks[..., 1:4, 1:4, 1:4] = 1
        >>> metric = FrocMetric(rates=[1])
        >>> _ = metric(maps, masks)
        >>> metric.aggregate(), metric.curve().lesions
        (1.0, 1)
    """

    def __init__(
        self,
        thresholds: Sequence[float] | np.ndarray | None = None,
        rates: Sequence[float] = FROC_RATES,
        *,
        min_voxels: int = 10,
        min_overlap: float = 0.1,
        min_lesion: int = 1,
    ) -> None:
        chosen = np.linspace(0.02, 1, 50) if thresholds is None else np.asarray(thresholds, dtype=np.float64)
        if not (len(rates) and chosen.size and np.isfinite(chosen).all()):
            raise ConfigurationError(
                f"thresholds={thresholds!r}, rates={rates!r}: give at least one finite threshold and one rate"
            )
        self.thresholds = np.unique(chosen)[::-1]
        super().__init__(2 * self.thresholds.size + 2, summed=True)
        self.rates = tuple(rates)
        self.rule: dict[str, Any] = {"min_voxels": min_voxels, "min_overlap": min_overlap, "min_lesion": min_lesion}

    def rows_of(self, scores: np.ndarray, truth: np.ndarray, **others: np.ndarray) -> np.ndarray:
        """Found lesions and false candidates at each threshold, number of lesions, and 1: (1, 2T + 2)."""
        anomaly, lesion = items_of(scores, truth, (3,))
        body = others.get("body")
        with warnings.catch_warnings():
            # A volume without lesions needs no warning. Scores that are not finite are reported with the metric.
            warnings.filterwarnings("ignore", message="no lesion of|sensitivity is NaN")
            curve = lesion_froc(
                anomaly,
                lesion,
                None if body is None else items_of(scores, body, (3,))[1],
                thresholds=self.thresholds,
                **self.rule,
            )
        found = np.round(curve.sensitivity * curve.lesions) if curve.lesions else np.zeros(curve.sensitivity.shape)
        return np.concatenate([found, curve.false_positives, [curve.lesions, 1]])[None]

    def curve(self) -> LesionFroc:
        """The curve of all volumes.

        Raises:
            ConfigurationError: no volume was given.
        """
        found, false, (lesions, volumes) = np.split(self.gathered(), [self.thresholds.size, 2 * self.thresholds.size])
        sensitivity = found / lesions if lesions else np.full(found.shape, np.nan)
        undefined = self.undefined()
        return LesionFroc(self.thresholds, sensitivity, false / volumes, int(lesions), int(volumes), undefined)

    def aggregate(self) -> float:
        """Mean sensitivity over the rates; NaN, with a warning, if there are no lesions or a map is not finite."""
        return self.curve().mean_sensitivity(self.rates)
