from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import conformal_p_values, conformal_threshold, smallest_reference_count

REPETITIONS = 2000

# Few different values, so that ties are the rule.
tied = st.integers(-3, 3).map(lambda value: value / 4)
references = st.lists(tied | st.just(-np.inf), min_size=1, max_size=40)


@pytest.mark.parametrize(("n", "alpha"), [(19, 0.05), (25, 0.05), (50, 0.1), (7, 0.3), (99, 0.01)])
def test_false_positive_rate_is_the_promised_one(n, alpha):
    """Each repetition draws reference scans and a fresh normal one; without ties the rate is known exactly."""
    rng = np.random.default_rng(n)
    scores = np.exp(rng.standard_normal((REPETITIONS, n + 1)))
    found = sum(conformal_p_values(row[:-1], row[-1:])[0] <= alpha for row in scores)
    above = sum(row[-1] > conformal_threshold(row[:-1], alpha) for row in scores)
    exact = np.floor((n + 1) * alpha + 1e-9) / (n + 1)
    low, high = binom.interval(0.999, REPETITIONS, exact)
    assert exact <= alpha
    assert low <= found <= high
    assert above == found


def test_ties_never_raise_the_rate():
    n, alpha = 39, 0.1
    scores = np.random.default_rng(3).integers(0, 6, (REPETITIONS, n + 1)).astype(float)
    found = sum(conformal_p_values(row[:-1], row[-1:])[0] <= alpha for row in scores)
    assert found <= binom.ppf(0.999, REPETITIONS, alpha)


def test_rate_over_all_candidates_of_a_scan():
    """Scans differ in how many candidates they have; compared with the highest peaks, none of them is too many."""
    rng = np.random.default_rng(4)
    n, alpha, alarms = 49, 0.1, 0

    def peaks():
        return rng.random(rng.integers(0, 8))

    for _ in range(REPETITIONS):
        reference = [max(peaks(), default=-np.inf) for _ in range(n)]
        alarms += bool((conformal_p_values(reference, peaks()) <= alpha).any())
    low, high = binom.interval(0.999, REPETITIONS, alpha)
    assert low <= alarms <= high


@given(references, st.lists(tied, min_size=1, max_size=10))
def test_p_values_count_and_fall_with_the_score(reference, scores):
    scores = sorted(scores)
    p_values = conformal_p_values(reference, scores)
    n = len(reference)
    assert p_values.tolist() == [(1 + sum(value >= score for value in reference)) / (n + 1) for score in scores]
    assert (np.diff(p_values) <= 0).all()


@given(references, tied, st.integers(1, 99).map(lambda percent: percent / 100))
def test_threshold_says_the_same_as_the_p_value(reference, score, alpha):
    if len(reference) < smallest_reference_count(alpha):
        with pytest.raises(ConfigurationError, match="needs at least"):
            conformal_threshold(reference, alpha)
        return
    above = score > conformal_threshold(reference, alpha)
    assert above == (conformal_p_values(reference, [score])[0] <= alpha)


@given(st.integers(1, 3000))
def test_smallest_count_is_exact(n):
    assert smallest_reference_count(1 / (n + 1)) in (n, n + 1)  # 1 / (n + 1) is rounded to a float
    assert 1 / (smallest_reference_count(n / 3001) + 1) <= n / 3001


def test_the_alpha_that_is_recommended_works():
    for n in range(1, 200):
        with pytest.raises(ConfigurationError, match="or larger") as info:
            conformal_threshold(np.arange(n), 1 / (n + 2))
        recommended = float(str(info.value).split("alpha=")[-1].split()[0])
        assert conformal_threshold(np.arange(n), recommended) == n - 1


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, float("nan"), True, "0.05"])
def test_alpha_is_a_rate(alpha):
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        conformal_threshold(np.arange(99), alpha)


@pytest.mark.parametrize(
    ("reference", "scores", "words"),
    [
        ([], [1.0], "reference is empty"),
        ([float("nan")], [1.0], "reference holds 1 values"),
        ([1.0], [float("inf")], "scores holds 1 values"),
        ([[1.0]], [1.0], "flat list"),
    ],
)
def test_values_that_are_no_scores(reference, scores, words):
    with pytest.raises(ConfigurationError, match=words):
        conformal_p_values(reference, scores)


@pytest.mark.parametrize("n", range(1, 200))
def test_the_smallest_rate_that_a_number_of_scans_allows_is_allowed(n: int) -> None:
    assert smallest_reference_count(1 / (n + 1)) == n
    assert conformal_threshold(range(n), 1 / (n + 1)) == n - 1
