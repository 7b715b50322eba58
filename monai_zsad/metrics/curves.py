"""The curve of a ranking, from which AUROC, average precision, F1-max and AUPRO are read."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from monai_zsad.errors import ConfigurationError

__all__ = ["RANKING_METRICS", "BestThreshold", "RankingCurve", "RankingName", "check_limit", "check_ranking_name"]

RankingName = Literal["auroc", "average_precision", "f1_max", "aupro"]
RANKING_METRICS: tuple[RankingName, ...] = ("auroc", "average_precision", "f1_max", "aupro")
_NAN = float("nan")


class BestThreshold(NamedTuple):
    """The best value over all thresholds, and its threshold.

    Attributes:
        value: within [0, 1]; NaN where it is not defined.
        threshold: scores at or above it count as anomalous; on the scale of the scores.
    """

    value: float
    threshold: float


class RankingCurve(NamedTuple):
    """Anomalous and normal values at or above each threshold, from the highest threshold down.

    Thresholds are the distinct scores of anomalous values, or the lower edges of bins that hold such scores: no metric
    changes its form at another threshold. Equal scores, or scores of one bin, are not ranked among each other.

    Attributes:
        thresholds: (T,), falling.
        found: (T,), number of anomalous values at or above the threshold.
        passed_before: (T,), number of normal values above it.
        passed: (T,), number of normal values at or above it.
        overlap: (T,), for each region of the truth the fraction that lies at or above it, summed over the regions.
        positives: number of anomalous values.
        negatives: number of normal values.
        regions: number of regions; 0 if they were not counted.
        undefined: why all metrics are NaN, such as scores that are not finite; empty otherwise.
    """

    thresholds: np.ndarray
    found: np.ndarray
    passed_before: np.ndarray
    passed: np.ndarray
    overlap: np.ndarray
    positives: float
    negatives: float
    regions: float
    undefined: str = ""

    @classmethod
    def nowhere(cls, undefined: str, positives: float, negatives: float) -> RankingCurve:
        """The curve of scores that cannot be ranked: NaN throughout.

        Args:
            undefined: why, in a sentence for the warnings of the metrics.
            positives: number of anomalous values.
            negatives: number of normal values.

        Returns:
            The curve; :attr:`defined` is false.

        Example:
            >>> RankingCurve.nowhere("scores hold 2 values that are not finite", 3, 4).defined
            False
        """
        none = np.full(1, _NAN)
        return cls(none, none, none, none, none, positives, negatives, _NAN, undefined)

    @property
    def defined(self) -> bool:
        """Whether metrics are defined: all scores are finite, some are anomalous and some normal."""
        return bool(self.positives and self.negatives and not self.undefined)

    def auroc(self) -> float:
        """Chance that an anomalous value scores above a normal one; equal ones count half.

        NaN with a warning without anomalous or without normal values, or with scores that are not finite, as all
        metrics here.
        """
        return self._auroc((self.passed + self.passed_before) / 2)

    def average_precision(self) -> float:
        """Mean precision over the anomalous values, without interpolation, as scikit-learn and torchmetrics take it."""
        if self._lacks("average precision"):
            return _NAN
        return float((self._new() * self.found / (self.found + self.passed)).sum() / self.positives)

    def f1_max(self) -> BestThreshold:
        """Largest F1, which is the Dice of all values together, and the threshold that gives it."""
        if self._lacks("F1-max"):
            return BestThreshold(_NAN, _NAN)
        f1 = self._f1(self.passed)
        best = int(f1.argmax())
        return BestThreshold(float(f1[best]), float(self.thresholds[best]))

    def aupro(self, limit: float = 0.3) -> float:
        """Area under per-region overlap over the false positive rate up to ``limit``, divided by it; see :func:`aupro`.

        Args:
            limit: false positive rate, within (0, 1].

        Returns:
            The area, in [0, 1].

        Raises:
            ConfigurationError: ``limit`` is not within (0, 1], or regions were not counted.
        """
        return self._area(limit, lambda before, after, part: before + (after - before) * part / 2)

    def value(self, metric: RankingName, limit: float = 0.3) -> float:
        """The metric of that name; ``limit`` is for ``"aupro"``.

        Args:
            metric: name of the metric.
            limit: false positive rate up to which AUPRO is integrated.

        Returns:
            The value, in [0, 1].

        Raises:
            ConfigurationError: for another name.
        """
        check_ranking_name(metric)
        if metric == "f1_max":
            return self.f1_max().value
        return self.aupro(limit) if metric == "aupro" else float(getattr(self, metric)())

    def bounds(self, metric: RankingName, limit: float = 0.3) -> tuple[float, float]:
        """Least and largest value that the metric can have for any order among equal scores, or scores of one bin.

        The exact value of the scores in a histogram lies between them. Both come from the most and the
        least favourable order within every bin; for average precision the lower one is below that by the gap between a
        concave function and its chord.

        Args:
            metric: name of the metric.
            limit: false positive rate up to which AUPRO is integrated.

        Returns:
            The least and the largest value.

        Raises:
            ConfigurationError: for an unknown name or limit.
        """
        check_ranking_name(metric)
        if metric == "aupro":
            low = self._area(limit, lambda before, _after, _part: before)
            return low, (_NAN if np.isnan(low) else self._area(limit, lambda _before, after, _part: after))
        if self._lacks(metric):
            return _NAN, _NAN
        if metric == "auroc":
            return self._auroc(self.passed), self._auroc(self.passed_before)
        if metric == "f1_max":
            return float(self._f1(self.passed).max()), float(self._f1(self.passed_before).max())
        new = self._new()
        first = self.found - new + 1
        # Precision of the k-th anomalous value behind all normal ones of its bin is concave in k.
        low_each = (first / (first + self.passed) + self.found / (self.found + self.passed)) / 2
        high_each = self.found / (self.found + self.passed_before)
        return float((new * low_each).sum() / self.positives), float((new * high_each).sum() / self.positives)

    def roc(self) -> tuple[np.ndarray, np.ndarray]:
        """False and true positive rates (2T + 2,), rising from 0 to 1, for a plot."""
        before = self.found - self._new()
        false = np.stack([self.passed_before, self.passed], axis=1).ravel() / max(self.negatives, 1)
        true = np.stack([before, self.found], axis=1).ravel() / max(self.positives, 1)
        return np.concatenate([[0.0], false, [1.0]]), np.concatenate([[0.0], true, [1.0]])

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray]:
        """Precision and recall (T,) at the thresholds, for a plot; recall rises."""
        return self.found / (self.found + self.passed), self.found / max(self.positives, 1)

    def _new(self) -> np.ndarray:
        return np.diff(self.found, prepend=0)

    def _f1(self, passed: np.ndarray) -> np.ndarray:
        return 2 * self.found / (self.found + passed + self.positives)

    def _auroc(self, above: np.ndarray) -> float:
        if self._lacks("AUROC"):
            return _NAN
        return float((self._new() * (self.negatives - above)).sum() / (self.positives * self.negatives))

    def _area(self, limit: float, height: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> float:
        """Area under the overlap, whose mean ``height`` over a tie follows from its ends and the part within limit."""
        check_limit(limit)
        if self._lacks("AUPRO"):
            return _NAN
        if not self.regions:
            raise ConfigurationError("this curve has no regions: make it with regions=True")
        after = self.overlap / self.regions
        before = np.concatenate([[0.0], after[:-1]])
        left, right = self.passed_before / self.negatives, self.passed / self.negatives
        inside = np.minimum(right, limit) - np.minimum(left, limit)
        part = np.divide(inside, right - left, out=np.zeros_like(inside), where=right > left)
        flat = np.minimum(np.append(left[1:], 1.0), limit) - np.minimum(right, limit)
        return float((inside * height(before, after, part)).sum() + (flat * after).sum()) / limit

    def _lacks(self, name: str) -> bool:
        if self.defined:
            return False
        what = "normal" if self.positives else "anomalous"
        why = f"{name} needs normal and anomalous values, none is {what}; it is NaN here"
        warnings.warn(f"{name} is NaN: {self.undefined}" if self.undefined else why, stacklevel=3)
        return True


def check_limit(limit: float) -> None:
    """Refuse a value that is not a false positive rate up to which to integrate.

    Raises:
        ConfigurationError: it is not within (0, 1].
    """
    if not 0 < limit <= 1:
        raise ConfigurationError(f"limit={limit!r}: give a false positive rate within (0, 1], such as 0.3")


def check_ranking_name(metric: str, among: tuple[str, ...] = RANKING_METRICS) -> None:
    """Refuse a name that is not in ``among``.

    Raises:
        ConfigurationError: names the accepted ones.
    """
    if metric not in among:
        raise ConfigurationError(f"metric={metric!r} is unknown: choose {', '.join(among[:-1])} or {among[-1]}")
