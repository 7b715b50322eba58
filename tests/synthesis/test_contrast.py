"""Random contrasts and what scanners add."""

from __future__ import annotations

import numpy as np
import pytest

from monai_zsad.synthesis import contrast as module
from monai_zsad.synthesis.contrast import _flair_like, _flatten, degrade, random_contrast, vary_tissue

RNG = np.random.default_rng(0)
# T1 and T2 of air, fluid, grey matter, white matter.
T1, T2 = np.array([0, 0.2, 0.55, 0.8], np.float32), np.array([0, 0.95, 0.55, 0.4], np.float32)


def test_range_type_and_seed() -> None:
    channels = RNG.uniform(-0.1, 1.1, (3, 6, 7)).astype(np.float32)
    before = channels.copy()
    for seed in range(60):
        found = random_contrast(channels, np.random.default_rng(seed), strength=seed % 3 / 2)
        assert found.shape == (6, 7)
        assert found.dtype == np.float32
        assert 0 <= found.min() <= found.max() <= 1
        same = random_contrast(channels, np.random.default_rng(seed), strength=seed % 3 / 2)
        np.testing.assert_array_equal(found, same)
    np.testing.assert_array_equal(channels, before)


def test_without_strength_the_order_of_tissues_stays() -> None:
    ramp = np.linspace(0, 1, 50, dtype=np.float32)[None]
    for seed in range(20):
        found = random_contrast(ramp, np.random.default_rng(seed), strength=0)
        assert (np.diff(found) > 0).all()
        assert (found[0], found[-1]) == (0, 1)


def test_contrasts_are_many_and_air_stays_dark() -> None:
    found = np.stack([random_contrast(np.stack([T1, T2]), np.random.default_rng(seed)) for seed in range(300)])
    assert (found[:, 0] < 0.06).all()
    _, fluid, grey, white = found.T
    assert np.mean((fluid < white) & (white < grey)) > 0.25, "FLAIR-like"
    assert np.mean((fluid > grey) & (grey > white)) > 0.1, "T2-like"
    assert np.mean((fluid < grey) & (grey < white)) > 0.1, "T1-like"


def test_degraded_slices_are_treated_alike_and_apart() -> None:
    image = RNG.uniform(0.2, 0.8, (40, 33, 3)).astype(np.float32)
    before, other = image.copy(), image.copy()
    other[..., 0] = 0
    for seed in range(12):
        found = degrade(image, np.random.default_rng(seed), (1.0, 1.0, 4.0))
        assert found.shape == image.shape
        assert found.dtype == np.float32
        assert 0 <= found.min() <= found.max() <= 1
        np.testing.assert_array_equal(found, degrade(image, np.random.default_rng(seed), (1.0, 1.0, 4.0)))
        beside = degrade(other, np.random.default_rng(seed), (1.0, 1.0, 4.0))
        np.testing.assert_allclose(beside[..., 1:], found[..., 1:], atol=1e-6)
        assert np.abs(found - image).mean() < 0.25
    np.testing.assert_array_equal(image, before)


def test_noise_is_of_the_size_that_is_said() -> None:
    flat = np.full((48, 48, 3), 0.5, np.float32)
    spread = [degrade(flat, np.random.default_rng(seed), (1, 1, 3))[16:32, 16:32, 1].std() for seed in range(40)]
    assert max(spread) < 0.1
    assert np.median(spread) == pytest.approx(0.017, abs=0.012)


def test_a_tissue_varies_from_region_to_region_and_the_others_stay() -> None:
    image = np.full((60, 60, 2), 0.3, np.float32)
    image[30:] = 0.8
    before = image.copy()
    tissue = np.ones(image.shape, bool)
    tissue[:, :5] = False
    changed = 0
    for seed in range(8):
        found = vary_tissue(image, tissue, (2.0, 2.0, 3.0), np.random.default_rng(seed), (0.1, 0.1))
        np.testing.assert_array_equal(
            found, vary_tissue(image, tissue, (2, 2, 3), np.random.default_rng(seed), (0.1, 0.1))
        )
        np.testing.assert_array_equal(found[:, :5], image[:, :5])
        spread = sorted(float((part - part.mean()).std()) for part in (found[:30, 5:], found[30:, 5:]))
        assert spread[0] < 0.001 < 0.05 < spread[1] < 0.2
        # Smooth: from one pixel to the next little changes.
        assert np.abs(np.diff(found[:30, 5:], axis=1)).max() < 0.1
        changed += bool(np.abs(found - image)[:30, 5:].max() > 0.01)
    assert 0 < changed < 8, "either tissue is drawn"
    np.testing.assert_array_equal(image, before)
    nothing = np.zeros(image.shape, bool)
    np.testing.assert_array_equal(vary_tissue(image, nothing, (1, 1, 1), np.random.default_rng(0)), image)


def test_flair_like_contrasts_reach_those_of_scans() -> None:
    """Grey matter is up to a third brighter than white matter, in some hardly at all."""
    rng = np.random.default_rng(5)
    tissues = np.stack([T1, T2])[:, rng.choice(4, 4000, p=[0.1, 0.1, 0.45, 0.35])]
    grey, white = (tissues[0] == T1[k] for k in (2, 3))
    ratios = []
    for seed in range(60):
        found = _flair_like(tissues[0], tissues[1], np.random.default_rng(seed))
        ratios.append(float(found[grey].mean() / found[white].mean()))
    low, middle, high = np.quantile(ratios, (0.05, 0.5, 0.95))
    assert 0.8 < low < 1.05 < middle < 1.3 < high < 1.8


def test_as_many_as_asked_for_look_like_flair(monkeypatch: pytest.MonkeyPatch) -> None:
    flattened = []

    def seen(image: np.ndarray, tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        flattened.append(tissue)
        return _flatten(image, tissue, rng)

    monkeypatch.setattr(module, "_flatten", seen)

    def drawn(channels: list[np.ndarray], flair: float) -> np.ndarray:
        """Without strength, so that nothing else looks like FLAIR."""
        return np.stack([random_contrast(np.stack(channels), np.random.default_rng(n), 0, flair) for n in range(300)])

    found = drawn([T1, T2], 1.0)
    assert found.dtype == np.float32
    assert (found[:, 0] == 0).all()
    assert (found[:, 1] < found[:, 2:].min(1)).all(), "fluid is dark"
    assert 120 < len(flattened) < 180
    assert all(tissue.tolist() == [False, False, True, True] for tissue in flattened)

    def share(flair: float) -> float:
        _, fluid, grey, white = drawn([T1, T2], flair).T
        return float(np.mean((fluid < grey) & (white < grey)))

    assert share(0) == 0
    assert 0.12 < share(0.25) < 0.38
    assert share(1) > 0.9
    np.testing.assert_array_equal(drawn([T1], 1.0), drawn([T1], 0.0), "there is nothing to mix")


def test_flattened_tissue_keeps_its_order_and_median() -> None:
    image = RNG.uniform(0, 1, (9, 9)).astype(np.float32)
    tissue = np.ones(image.shape, bool)
    tissue[0] = False
    before = image.copy()
    for seed in range(20):
        found = _flatten(image, tissue, np.random.default_rng(seed))
        np.testing.assert_array_equal(found[0], image[0])
        middle = np.median(image[tissue])
        shares = (found[tissue] - middle)[image[tissue] != middle] / (image[tissue] - middle)[image[tissue] != middle]
        np.testing.assert_allclose(shares, shares[0], rtol=1e-3)
        assert 0.4 <= shares[0] <= 0.9
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(_flatten(image, ~np.ones_like(tissue), np.random.default_rng(0)), image)
