"""Split conformal p-values: how unusual a score is, compared with the scores of normal reference scans."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil

import numpy as np

from monai_zsad.errors import ConfigurationError

__all__ = ["conformal_p_values", "conformal_threshold", "smallest_reference_count"]


def conformal_p_values(reference: Sequence[float] | np.ndarray, scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """P-value of each score: (1 + number of reference scores that are at least as high) / (n + 1).

    A normal scan is exchangeable with the n reference scans. Its p-value is at most alpha with a probability of at most
    alpha. This holds for any distribution of the scores and for any n. The probability is marginal: it is over the
    drawing of the reference scans and of the scan. For fixed reference scans, the rate of false positives varies
    around alpha. Without ties it follows a beta distribution with the parameters k and n + 1 - k, where
    k = floor((n + 1) alpha). A tie makes the p-value larger, so ties can only lower the rate. The smallest possible
    p-value is 1 / (n + 1).

    References:
        Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2005. Papadopoulos et al., Inductive Confidence
        Machines for Regression, ECML 2002 (the split form). Angelopoulos, Bates, Conformal Prediction: A Gentle
        Introduction, 2023. Bates et al., Testing for Outliers with Conformal p-values, Annals of Statistics 2023.

    Args:
        reference: (n,), one score per reference scan; minus infinity if a scan has no score.
        scores: (m,), scores of the same kind; higher is more suspicious.

    Returns:
        (m,) float64, within [1 / (n + 1), 1].

    Raises:
        ConfigurationError: there are no reference scores, or a score is NaN or plus infinity.

    Example:
        >>> conformal_p_values([0.1, 0.2, 0.3, 0.4], [0.5, 0.3, 0.0]).tolist()
        [0.2, 0.6, 1.0]
    """
    ordered = _ordered(reference)
    wanted = _finite("scores", scores)
    as_high = ordered.size - np.searchsorted(ordered, wanted, side="left")
    return (1 + as_high) / (ordered.size + 1)


def conformal_threshold(reference: Sequence[float] | np.ndarray, alpha: float) -> float:
    """Threshold that the score of a normal scan exceeds with a probability of at most ``alpha``.

    It is the ceil((n + 1) (1 - alpha))-th smallest reference score. A score is above the threshold if and only if its
    p-value is at most ``alpha``, so the guarantee of :func:`conformal_p_values` holds.

    Args:
        reference: (n,), see :func:`conformal_p_values`.
        alpha: rate of false positives, within (0, 1).

    Returns:
        The threshold. It is minus infinity if too many reference scans have no score; then any score is above it.

    Raises:
        ConfigurationError: alpha is out of range, or there are too few reference scores for it. The message states how
            many are needed.

    Example:
        >>> conformal_threshold(range(19), 0.05)
        18.0
        >>> conformal_threshold(range(18), 0.05)
        Traceback (most recent call last):
        monai_zsad.errors.ConfigurationError: alpha=0.05 needs at least 19 reference scans, there are 18: ...
    """
    ordered = _ordered(reference)
    needed = smallest_reference_count(alpha)
    if ordered.size < needed:
        raise ConfigurationError(
            f"alpha={alpha!r} needs at least {needed} reference scans, there are {ordered.size}: add scans, or choose "
            f"alpha={ceil(10_000 / (ordered.size + 1)) / 10_000} or larger."
        )
    return float(ordered[ceil((ordered.size + 1) * (1 - _exact(alpha))) - 1])


def smallest_reference_count(alpha: float) -> int:
    """Smallest number of reference scans for a rate of false positives: the smallest n with 1 / (n + 1) <= alpha.

    Args:
        alpha: rate of false positives, within (0, 1).

    Returns:
        The number of scans.

    Raises:
        ConfigurationError: alpha is not within (0, 1).

    Example:
        >>> smallest_reference_count(0.05), smallest_reference_count(0.01)
        (19, 99)
    """
    return ceil(1 / _exact(alpha)) - 1


def _exact(alpha: float) -> Fraction:
    """Alpha as an exact fraction, for example 1/20 for 0.05. Floating-point rounding could change the rank."""
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < 1:
        raise ConfigurationError(f"alpha={alpha!r}: give a rate of false positives between 0 and 1, such as 0.05.")
    simple = Fraction(float(alpha)).limit_denominator(1_000_000)
    return simple if float(simple) == float(alpha) else Fraction(repr(float(alpha)))


def _ordered(reference: Sequence[float] | np.ndarray) -> np.ndarray:
    values = _finite("reference", reference)
    if values.size == 0:
        raise ConfigurationError("reference is empty: give the score of at least one reference scan.")
    return np.sort(values)


def _finite(name: str, scores: Sequence[float] | np.ndarray) -> np.ndarray:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise ConfigurationError(f"{name} has the shape {values.shape}: a flat list of scores is needed.")
    if bad := int(np.count_nonzero(np.isnan(values) | (values == np.inf))):
        raise ConfigurationError(f"{name} holds {bad} values that are NaN or infinite: check the network's weights.")
    return values
