"""The curve of a ranking. It gives AUROC, average precision, F1-max and AUPRO."""

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
        value: within [0, 1]; NaN if it is undefined.
        threshold: threshold on the scale of the scores. Scores at or above it count as anomalous.
    """

    value: float
    threshold: float


class RankingCurve(NamedTuple):
    """Numbers of anomalous and normal values at or above each threshold, from the highest threshold down.

    Thresholds are the distinct scores of anomalous values, or the lower edges of bins with anomalous values. No metric
    needs other thresholds. Equal scores, or scores in one bin, have no order among each other.

    Attributes:
        thresholds: (T,), in falling order.
        found: (T,), number of anomalous values at or above the threshold.
        passed_before: (T,), number of normal values above the threshold.
        passed: (T,), number of normal values at or above the threshold.
        overlap: (T,), fraction of each region of the truth at or above the threshold, summed over the regions.
        positives: number of anomalous values.
        negatives: number of normal values.
        regions: number of regions; 0 if they were not counted.
        undefined: reason why all metrics are NaN, for example scores that are not finite; empty otherwise.
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
        """A curve for scores that cannot be ranked. Its values are NaN.

        Args:
            undefined: the reason, as a sentence for the warnings of the metrics.
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
        """Whether the metrics are defined: all scores are finite, and there are anomalous and normal values."""
        return bool(self.positives and self.negatives and not self.undefined)

    def auroc(self) -> float:
        """Probability that an anomalous value has a higher score than a normal one. Equal scores count half.

        As for all metrics here, the value is NaN, with a warning, if there are no anomalous values, no normal values,
        or scores that are not finite.
        """
        return self._auroc((self.passed + self.passed_before) / 2)

    def average_precision(self) -> float:
        """Mean precision over the anomalous values, without interpolation, as in scikit-learn and torchmetrics."""
        if self._lacks("average precision"):
            return _NAN
        return float((self._new() * self.found / (self.found + self.passed)).sum() / self.positives)

    def f1_max(self) -> BestThreshold:
        """Largest F1 and its threshold. F1 is the Dice of all values together."""
        if self._lacks("F1-max"):
            return BestThreshold(_NAN, _NAN)
        f1 = self._f1(self.passed)
        best = int(f1.argmax())
        return BestThreshold(float(f1[best]), float(self.thresholds[best]))

    def aupro(self, limit: float = 0.3) -> float:
        """Area under the per-region overlap up to the false positive rate ``limit``, divided by ``limit``.

        The function ``aupro`` of this package explains the metric.

        Args:
            limit: largest false positive rate, within (0, 1].

        Returns:
            The area, in [0, 1].

        Raises:
            ConfigurationError: ``limit`` is not within (0, 1], or regions were not counted.
        """
        return self._area(limit, lambda before, after, part: before + (after - before) * part / 2)

    def value(self, metric: RankingName, limit: float = 0.3) -> float:
        """The value of a metric by its name.

        Args:
            metric: name of the metric.
            limit: false positive rate up to which AUPRO is integrated.

        Returns:
            The value, in [0, 1].

        Raises:
            ConfigurationError: the name is unknown.
        """
        check_ranking_name(metric)
        if metric == "f1_max":
            return self.f1_max().value
        return self.aupro(limit) if metric == "aupro" else float(getattr(self, metric)())

    def bounds(self, metric: RankingName, limit: float = 0.3) -> tuple[float, float]:
        """Least and largest value of the metric for any order among equal scores, or among scores of one bin.

        The exact value of the scores in a histogram lies between them. They come from the least and the most favourable
        order within each bin. For average precision, the lower bound is slightly below the least favourable order,
        because a concave function is replaced by its chord.

        Args:
            metric: name of the metric.
            limit: false positive rate up to which AUPRO is integrated.

        Returns:
            The least and the largest value.

        Raises:
            ConfigurationError: the name is unknown, or the limit is out of range.
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
        # If all normal values of a bin come first, the precision at its k-th anomalous value is concave in k.
        low_each = (first / (first + self.passed) + self.found / (self.found + self.passed)) / 2
        high_each = self.found / (self.found + self.passed_before)
        return float((new * low_each).sum() / self.positives), float((new * high_each).sum() / self.positives)

    def roc(self) -> tuple[np.ndarray, np.ndarray]:
        """False and true positive rates (2T + 2,) for a plot. Both rise from 0 to 1."""
        before = self.found - self._new()
        false = np.stack([self.passed_before, self.passed], axis=1).ravel() / max(self.negatives, 1)
        true = np.stack([before, self.found], axis=1).ravel() / max(self.positives, 1)
        return np.concatenate([[0.0], false, [1.0]]), np.concatenate([[0.0], true, [1.0]])

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray]:
        """Precision and recall (T,) at the thresholds, for a plot. Recall rises."""
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
        """Area under the overlap. ``height`` gives its mean over a tie from both ends and the part within ``limit``."""
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
    """Check that a false positive rate is a valid limit of integration.

    Raises:
        ConfigurationError: it is not within (0, 1].
    """
    if not 0 < limit <= 1:
        raise ConfigurationError(f"limit={limit!r}: give a false positive rate within (0, 1], such as 0.3")


def check_ranking_name(metric: str, among: tuple[str, ...] = RANKING_METRICS) -> None:
    """Check that a name is in ``among``.

    Raises:
        ConfigurationError: the name is unknown. The message lists the known names.
    """
    if metric not in among:
        raise ConfigurationError(f"metric={metric!r} is unknown: choose {', '.join(among[:-1])} or {among[-1]}")
