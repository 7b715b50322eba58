"""Synthetic lesions: where the image changes, which way, what is told of it, and shapes in mm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from monai_zsad.errors import ConfigurationError
from monai_zsad.synthesis import ATTRIBUTES, KINDS, Lesion, LesionedImage, LesionSettings, paint_lesions
from monai_zsad.synthesis.lesions.shapes import ellipsoid, irregular, lobed, waves

GRIDS = ((1.0, 1.0), (0.7, 1.6), (1.0, 1.0, 3.0), (2.0, 1.2, 1.2))
SIDE_MM = 72.0
WORDS = {
    "small": "small",
    "large": "large",
    "hyperintense": "hyperintense",
    "hypointense": "hypointense",
    "diffuse": "diffuse",
    "ring-enhancing": "ring",
    "calcified": "calcified",
    "irregular": "textured",
}


def even_tissue(spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tissue of about 100 within air; far from the middle a part of 60 and one of 140, which give the range of 80."""
    shape = tuple(round(SIDE_MM / step) for step in spacing)
    image = np.full(shape, 100.0, dtype=np.float32)
    image += np.random.default_rng(5).normal(0, 0.5, shape).astype(np.float32)
    image[: shape[0] // 10] = 60
    image[-(shape[0] // 10) :] = 140
    tissue = np.ones(shape, dtype=bool)
    tissue[:, : shape[1] // 12] = False
    image[~tissue] = 0
    places = np.zeros(shape)
    places[tuple(n // 2 for n in shape)] = 1
    return image, tissue, places


def paint(kind: str, spacing: tuple[float, ...], seed: int, **options: Any) -> tuple[np.ndarray, LesionedImage]:
    image, tissue, places = even_tissue(spacing)
    settings = LesionSettings(**({"kinds": {kind: 1}, "radius_mm": (3, 8), "contrast": (0.3, 0.6)} | options))
    found = paint_lesions(image, spacing, tissue, 1, np.random.default_rng(seed), settings, places=places)
    return image, found


@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_neighbourhood_changes_and_the_mask_is_there(kind: str, spacing: tuple[float, ...]) -> None:
    for seed, pushes in ((0, 0.0), (1, 0.0), (2, 1.0)):
        image, found = paint(kind, spacing, seed, mass_effect=pushes)
        (lesion,) = found.lesions
        change = np.abs(found.image - image)
        mask = found.labels == 1
        assert mask.any()
        assert not change[image == 0].any()
        # Radii, fading border, and the voxels that the box is rounded to.
        reach = lesion.radius_mm * (3 if pushes else 2) + 2 * 2.0
        for axis, step in enumerate(spacing):
            at = np.flatnonzero((change > 0).any(tuple(a for a in range(image.ndim) if a != axis)))
            assert np.abs(at - lesion.center[axis]).max() * step <= reach + step
        if kind in ("focal", "lobed", "multiple", "calcification") and not pushes:
            changed = change > 0.4 * np.quantile(change[mask], 0.8)
            dice = 2 * (changed & mask).sum() / (changed.sum() + mask.sum())
            # Of several small spots each has its own partial volume.
            assert dice > (0.6 if kind == "multiple" else 0.75), (kind, spacing, seed)
        elif not pushes:
            # Most of all that changes lies in the mask and its fading border.
            near = binary_dilation(mask, iterations=3)
            assert change[near].sum() > 0.6 * change.sum()
            assert change[mask].mean() > 3 * change[~mask].mean()


@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize("kind", ["focal", "lobed", "diffuse", "multiple", "calcification"])
@pytest.mark.parametrize("bright", [0.0, 1.0])
def test_attributes_tell_the_sign_of_the_change(kind: str, spacing: tuple[float, ...], bright: float) -> None:
    for seed in range(3):
        image, found = paint(kind, spacing, seed, hyperintense=bright)
        (lesion,) = found.lesions
        mask = found.labels == 1
        around = binary_dilation(mask, iterations=3) & ~mask & (image > 0)
        difference = found.image[mask].mean() - np.median(image[around])
        wanted = "hyperintense" if difference > 0 else "hypointense"
        assert wanted in lesion.attributes
        assert np.sign(difference) == np.sign(lesion.contrast)
        assert abs(difference) > 0.1 * 80
        if kind != "calcification":
            assert (difference > 0) == bool(bright)


def test_a_ring_is_bright_around_a_dark_core() -> None:
    for seed in range(4):
        image, found = paint("ring", (1.0, 1.0, 1.0), seed, radius_mm=(8, 9), mass_effect=0.0)
        mask = found.labels == 1
        change = (found.image - image)[mask]
        assert change.max() > 0.15 * 80
        assert change.min() < -0.02 * 80
        core = np.argwhere((found.image < 99) & mask).mean(0)
        assert np.linalg.norm(core - np.argwhere(mask).mean(0)) < 4


def test_mass_effect_moves_what_is_around() -> None:
    shape = (64, 64)
    image = np.fromfunction(lambda r, c: 100 + 20 * np.sin(r / 3) * np.sin(c / 3), shape).astype(np.float32)
    places = np.zeros(shape)
    places[32, 32] = 1

    def changed(pushes: float) -> int:
        settings = LesionSettings(kinds={"focal": 1}, radius_mm=(7, 7), mass_effect=pushes, edge_mm=(0.5, 0.5))
        found = paint_lesions(image, (1, 1), image > 0, 1, np.random.default_rng(3), settings, places=places)
        outside = ~binary_dilation(found.labels > 0, iterations=2)
        return int((np.abs(found.image - image) > 0.5)[outside].sum())

    assert changed(1.0) > 60
    assert changed(0.0) == 0


def grainy() -> tuple[np.ndarray, np.ndarray]:
    """A scan of 100 with noise of 4, parts of 60 and 140 that give the range, and the place in its middle."""
    image = 100 + np.random.default_rng(1).normal(0, 4, (72, 72)).astype(np.float32)
    image[:8], image[-8:] = 60, 140
    places = np.zeros(image.shape)
    places[36, 36] = 1
    return image, places


@pytest.mark.parametrize(("grain", "least", "most"), [((0.0, 0.0), 0.0, 0.6), ((1.0, 1.0), 0.8, 1.2)])
def test_grain_of_the_scan_stays_inside(grain: tuple[float, float], least: float, most: float) -> None:
    image, places = grainy()
    ratios = []
    for seed in range(6):
        settings = LesionSettings(kinds={"focal": 1}, radius_mm=(9, 9), mass_effect=0, texture=(0, 0), grain=grain)
        found = paint_lesions(image, (1, 1), image > 0, 1, np.random.default_rng(seed), settings, places=places)
        inside = binary_erosion(found.labels > 0, iterations=3)
        fine = found.image - gaussian_filter(found.image, 1.0)
        ratios.append(fine[inside].std() / (image - gaussian_filter(image, 1.0))[inside].std())
    assert least <= np.mean(ratios) <= most


@pytest.mark.parametrize("bright", [0.0, 1.0])
def test_extreme_lesions_leave_the_range_of_the_tissue(bright: float) -> None:
    image, places = grainy()

    def inside(extreme: float, seed: int) -> float:
        settings = LesionSettings(
            kinds={"focal": 1}, radius_mm=(8, 8), hyperintense=bright, contrast=(0.1, 0.15), extreme=extreme
        )
        found = paint_lesions(image, (1, 1), image > 0, 1, np.random.default_rng(seed), settings, places=places)
        return float(np.median(found.image[binary_erosion(found.labels > 0, iterations=2)]))

    extremes = [inside(1.0, seed) for seed in range(6)]
    others = [inside(0.0, seed) for seed in range(6)]
    if bright:
        assert min(extremes) > 120 > max(others) > 100
    else:
        assert max(extremes) < 80 < min(others) < 100


def test_every_kind_occurs_and_words_fit() -> None:
    image, tissue, _ = even_tissue((1.0, 1.0))
    rng = np.random.default_rng(0)
    lesions = [lesion for _ in range(40) for lesion in paint_lesions(image, (1, 1), tissue, 5, rng).lesions]
    assert {lesion.kind for lesion in lesions} == set(KINDS)
    assert {attribute for lesion in lesions for attribute in lesion.attributes} == set(ATTRIBUTES)
    bright = np.mean([lesion.contrast > 0 for lesion in lesions if lesion.kind in ("focal", "lobed", "diffuse")])
    assert 0.45 < bright < 0.75
    for lesion in lesions:
        *words, last = lesion.caption.split()
        assert last == "lesion"
        assert words
        assert {WORDS[word] for word in words} <= set(lesion.attributes)
        assert {"small", "large"} & set(words) == {"small", "large"} & set(lesion.attributes)
        assert ("small" in lesion.attributes) >= (lesion.radius_mm < 4)
        assert not {"hyperintense", "hypointense"} <= set(lesion.attributes)
        assert tissue[tuple(int(c) for c in lesion.center)]


def test_captions() -> None:
    assert Lesion("focal", (0.0,), 2.0, -0.3, ("lesion", "hypointense", "small")).caption == "small hypointense lesion"
    assert Lesion("texture", (0.0,), 12.0, -0.3, ("lesion", "textured", "large")).caption == "large irregular lesion"
    diffuse = Lesion("diffuse", (0.0,), 6.0, 0.3, ("lesion", "hyperintense", "diffuse"))
    assert diffuse.caption == "diffuse hyperintense lesion"


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 1.0, 3.0)])
def test_the_same_seed_gives_the_same_and_the_input_stays(spacing: tuple[float, ...]) -> None:
    image, tissue, _ = even_tissue(spacing)
    whole = image.astype(np.int16)
    before = whole.copy(), tissue.copy()
    first, same, other = (paint_lesions(whole, spacing, tissue, 3, np.random.default_rng(n)) for n in (1, 1, 2))
    np.testing.assert_array_equal(first.image, same.image)
    np.testing.assert_array_equal(first.labels, same.labels)
    assert first.lesions == same.lesions != other.lesions
    np.testing.assert_array_equal(whole, before[0])
    np.testing.assert_array_equal(tissue, before[1])
    assert first.image.dtype == np.float32
    assert first.labels.dtype == np.uint8


def test_attribute_masks() -> None:
    image, tissue, _ = even_tissue((1.0, 1.0))
    found = paint_lesions(image, (1, 1), tissue, 4, np.random.default_rng(0))
    masks = found.attribute_masks()
    assert masks.shape == (len(ATTRIBUTES), *image.shape)
    np.testing.assert_array_equal(masks[0], found.labels > 0)
    for number, lesion in enumerate(found.lesions, start=1):
        told = {name for name, mask in zip(ATTRIBUTES, masks, strict=True) if mask[found.labels == number].all()}
        assert told >= set(lesion.attributes)
        assert (masks[:, found.labels == number].sum(0) == len(lesion.attributes)).all()


def test_places_and_nothing_to_paint() -> None:
    image, tissue, _ = even_tissue((1.0, 1.0))
    places = np.zeros(image.shape)
    places[20:24, 40:44] = 1
    places[2:4, :2] = 5  # in the air
    found = paint_lesions(image, (1, 1), tissue, 6, np.random.default_rng(0), places=places)
    assert all(20 <= lesion.center[0] < 24 and 40 <= lesion.center[1] < 44 for lesion in found.lesions)
    for count, where in ((0, tissue), (3, np.zeros_like(tissue))):
        nothing = paint_lesions(image, (1, 1), where, count, np.random.default_rng(0))
        np.testing.assert_array_equal(nothing.image, image)
        assert not nothing.labels.any()
        assert nothing.lesions == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius_mm": (5, 2)}, "radius_mm"),
        ({"radius_mm": (0, 2)}, "radius_mm.*above 0"),
        ({"contrast": (-0.1, 0.2)}, "contrast"),
        ({"hyperintense": 1.5}, r"hyperintense=1\.5"),
        ({"mass_effect": -1}, "mass_effect"),
        ({"kinds": {"blob": 1}}, "kinds=.*blob.*choose from focal"),
        ({"kinds": {"focal": 0}}, "frequencies"),
        ({"kinds": {"focal": -1, "ring": 2}}, "frequencies"),
    ],
)
def test_unusable_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        LesionSettings(**options)


def test_arguments_that_do_not_fit() -> None:
    image, rng = np.ones((8, 8)), np.random.default_rng(0)
    with pytest.raises(ConfigurationError, match="2 or 3 axes"):
        paint_lesions(image, (1, 1, 1), image > 0, 1, rng)
    with pytest.raises(ConfigurationError, match="spacing"):
        paint_lesions(image, (1, 0), image > 0, 1, rng)
    with pytest.raises(ConfigurationError, match="must have the shape"):
        paint_lesions(image, (1, 1), np.ones((8, 9), bool), 1, rng)
    with pytest.raises(ConfigurationError, match="must have the shape"):
        paint_lesions(image, (1, 1), image > 0, 1, rng, places=np.ones((9, 8)))


def coordinates(dimensions: int, half: int, step: float = 1.0) -> np.ndarray:
    axis = np.arange(-half, half + step / 2, step, dtype=np.float32)
    return np.stack(np.meshgrid(*[axis] * dimensions, indexing="ij"))


def test_ellipsoids() -> None:
    grid = coordinates(3, 12)
    ball = ellipsoid(grid, 5.0, np.random.default_rng(0), elongation=1.0)
    np.testing.assert_allclose(ball, 5.0 - np.linalg.norm(grid, axis=0), atol=1e-4)
    for seed in range(4):
        volume = (ellipsoid(grid, 6.0, np.random.default_rng(seed)) > 0).sum()
        assert volume == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.05)


@pytest.mark.parametrize("shape", [ellipsoid, irregular, lobed])
def test_a_shape_is_the_same_on_any_grid(shape: Any) -> None:
    fine, coarse = coordinates(2, 10, 0.5), coordinates(2, 10, 1.0)
    found = shape(fine, 5.0, np.random.default_rng(2)), shape(coarse, 5.0, np.random.default_rng(2))
    np.testing.assert_allclose(found[0][::2, ::2], found[1], atol=1e-4)
    assert found[1][10, 10] > 0 > max(found[1][0, 0], found[1][-1, -1])


def test_waves_have_unit_spread() -> None:
    grid = coordinates(2, 60)
    fields = [waves(grid, (5.0, 9.0), np.random.default_rng(seed)) for seed in range(5)]
    assert np.mean([field.std() for field in fields]) == pytest.approx(1, abs=0.15)
    assert all(abs(field.mean()) < 0.2 for field in fields)
