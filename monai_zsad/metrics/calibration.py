"""Expected calibration error over a set: how well the scores agree with probabilities."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from monai.metrics import calibration_binning

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics.gathered import GatheredMetric
from monai_zsad.metrics.values import Images, not_finite, scored, whole_pairs, why_undefined

__all__ = ["CalibrationTable", "ScoreCalibrationMetric", "expected_calibration_error"]

# MONAI's function adds up in float32, so it gets only this number of values at a time.
_PIECE = 65536


class CalibrationTable(NamedTuple):
    """Mean score and observed frequency in bins of the score, for a reliability diagram.

    Attributes:
        score: (bins,), mean score; NaN if a bin is empty.
        frequency: (bins,), fraction of anomalous values; NaN if a bin is empty.
        counts: (bins,), number of values.
        undefined: reason why all values are NaN, for example scores that are not finite; empty otherwise.
    """

    score: np.ndarray
    frequency: np.ndarray
    counts: np.ndarray
    undefined: str = ""

    def error(self) -> float:
        """Expected calibration error: the mean distance between score and frequency over all values.

        It is NaN, with a warning, if there are no values or a score is not finite.
        """
        if self.undefined or not self.counts.sum():
            why = "expected calibration error needs values; it is NaN here"
            warnings.warn(
                f"expected calibration error is NaN: {self.undefined}" if self.undefined else why, stacklevel=2
            )
            return float("nan")
        kept = self.counts > 0
        apart = np.abs(self.score - self.frequency)[kept]
        return float((apart * self.counts[kept]).sum() / self.counts.sum())


def expected_calibration_error(scores: Images, truth: Images, bins: int = 15) -> float:
    """Expected calibration error of the scores of images or pixels, read as probabilities of an anomaly.

    MONAI's ``CalibrationErrorMetric`` computes the error of each image and then their mean. A single image score has no
    calibration error. Here all values are taken together.

    References:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.

    Args:
        scores: an array of any shape, or a sequence of arrays that may differ in shape; within [0, 1].
        truth: the same shapes, above 0 where anomalous.
        bins: number of bins of equal width over [0, 1].

    Returns:
        Within [0, 1]. NaN, with a warning, if there are no values or a score is not finite. Truth may be all normal or
        all anomalous.

    Raises:
        ConfigurationError: shapes differ, scores are not within [0, 1], or there are no bins.

    Example:
        >>> round(expected_calibration_error([0.25, 0.25, 0.25, 0.25, 1.0], [1, 0, 0, 1, 1]), 3)
        0.2
    """
    _check(bins)
    total = np.zeros((3, bins))
    broken: dict[str, int] = {}
    for values, wanted, bad in whole_pairs(scores, truth):
        total += _sums(values, wanted, bins)
        broken |= bad
    return _table(total, why_undefined(broken)).error()


class ScoreCalibrationMetric(GatheredMetric):
    """Expected calibration error, updated batch by batch. It keeps three sums for each bin, so memory does not grow.

    MONAI's ``CalibrationErrorMetric`` computes the error of each image and then their mean. Here the sums of all
    processes are added up.

    The inputs are image scores or maps (B, ...) within [0, 1], and truths of the same shape, above 0 where anomalous.

    Args:
        bins: number of bins of equal width over [0, 1].

    Raises:
        ConfigurationError: there are no bins. When the metric is called: see :func:`expected_calibration_error`.

    Example:
        >>> metric = ScoreCalibrationMetric()
        >>> _ = metric(torch.tensor([[0.25], [0.25]]), torch.tensor([[1], [0]]))
        >>> metric.aggregate()
        0.25
    """

    def __init__(self, bins: int = 15) -> None:
        _check(bins)
        super().__init__(3 * bins, summed=True)
        self.bins = bins

    def rows_of(self, scores: np.ndarray, truth: np.ndarray, **_: np.ndarray) -> np.ndarray:
        """Sums of scores, of anomalous values and of values in each bin: (1, 3 bins)."""
        return _sums(*scored(scores, truth), self.bins).reshape(1, -1)

    def table(self) -> CalibrationTable:
        """The table of all images.

        Raises:
            ConfigurationError: no image was given.
        """
        return _table(self.gathered().reshape(3, self.bins), self.undefined())

    def aggregate(self) -> float:
        """Expected calibration error over all images; NaN, with a warning, if a score is not finite."""
        return self.table().error()


def _sums(scores: np.ndarray, anomalous: np.ndarray, bins: int) -> np.ndarray:
    broken = not_finite(scores)
    finite = scores[np.isfinite(scores)] if broken else scores
    if finite.size and not (finite.min() >= 0 and finite.max() <= 1):
        raise ConfigurationError(
            f"scores lie within [{finite.min()}, {finite.max()}]: calibration needs probabilities; give them in [0, 1]"
        )
    if broken:
        return np.full((3, bins), np.nan)
    total = np.zeros((3, bins))
    values = torch.from_numpy(scores.astype(np.float32).ravel())
    truth = torch.from_numpy(anomalous.astype(np.float32).ravel())
    for piece, wanted in zip(values.split(_PIECE), truth.split(_PIECE), strict=True):
        if not len(piece):
            continue
        score, frequency, count = (
            part[0, 0].double().nan_to_num().numpy()
            for part in calibration_binning(piece[None, None], wanted[None, None], bins)
        )
        total += np.stack([score * count, frequency * count, count])
    return total


def _table(sums: np.ndarray, undefined: str) -> CalibrationTable:
    score, anomalous, count = sums
    filled = np.where(count > 0, count, np.nan)
    return CalibrationTable(score / filled, anomalous / filled, count, undefined)


def _check(bins: int) -> None:
    if bins < 1:
        raise ConfigurationError(f"bins={bins!r}: give at least one bin")
