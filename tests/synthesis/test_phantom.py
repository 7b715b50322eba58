from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion

from monai_zsad.errors import ConfigurationError
from monai_zsad.synthesis import Phantom, Tissue, phantom_abdomen, phantom_head

SMALL = ((64, 64, 14), (3.6, 3.6, 12.0))
TRUNK = ((72, 56, 20), (5.6, 5.6, 10.0))
EVERY: list[tuple[Any, Any, str]] = [(phantom_head, SMALL, name) for name in ("flair", "t1", "t2", "ct", "random")]
EVERY += [(phantom_abdomen, TRUNK, name) for name in ("ct", "t1", "t2", "random")]


def positions(phantom: Phantom, where: np.ndarray) -> np.ndarray:
    return np.argwhere(where) @ phantom.affine[:3, :3].T + phantom.affine[:3, 3]


def typical(phantom: Phantom, tissue: Tissue) -> float:
    """Median away from the tissue's border, where the blur mixes it with its neighbours."""
    inside = binary_erosion((phantom.tissue == tissue) & (phantom.lesion == 0), border_value=1)
    return float(np.median(phantom.image[inside]))


@pytest.mark.parametrize(("make", "grid", "contrast"), EVERY)
def test_same_arguments_same_phantom_and_its_fields_agree(make, grid, contrast):
    first, again, other = (make(*grid, seed=seed, contrast=contrast) for seed in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert first.center_mm != other.center_mm
    assert (first.tissue != other.tissue).mean() > 0.02
    assert first.image.dtype == np.float32
    assert first.image.shape == first.tissue.shape == first.lesion.shape == grid[0]
    assert first.tissue.dtype == first.lesion.dtype == np.uint8
    assert set(np.unique(first.tissue)) <= set(Tissue)
    assert np.isfinite(first.image).all()


@pytest.mark.parametrize(("make", "grid", "contrast"), EVERY)
def test_contrast_changes_values_only(make, grid, contrast):
    reference, phantom = make(*grid, seed=4), make(*grid, seed=4, contrast=contrast)
    np.testing.assert_array_equal(phantom.tissue, reference.tissue)
    np.testing.assert_array_equal(phantom.lesion, reference.lesion)
    assert phantom.center_mm == reference.center_mm


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000))
def test_lesion_is_where_it_is_said_to_be_and_bright(seed):
    head = phantom_head((80, 90, 40), (2.5, 2.5, 4.5), seed=seed)
    assert head.radius_mm is not None
    inside = positions(head, head.lesion)
    assert len(inside) > 10
    assert np.linalg.norm(inside - head.center_mm, axis=1).max() <= head.radius_mm
    volume = len(inside) * 2.5 * 2.5 * 4.5
    assert volume == pytest.approx(4 / 3 * np.pi * head.radius_mm**3, rel=0.25)
    brain = head.image[(head.lesion == 0) & (head.image > 300)]
    assert np.median(head.image[head.lesion > 0]) > np.percentile(brain, 97)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("make", "grid", "contrast"), EVERY)
def test_lesion_differs_from_its_surroundings_as_its_kind_says(make, grid, contrast, seed):
    nothing = False if make is phantom_head else None
    phantom = make(*grid, seed=seed, contrast=contrast)
    change = phantom.image - make(*grid, seed=seed, contrast=contrast, lesion=nothing).image
    difference = np.median(change[phantom.lesion > 0])
    assert (difference > 0) == phantom.lesion_kind.startswith("hyper")
    assert abs(difference) > (8 if contrast == "ct" else 60)
    assert phantom.lesion_kind.endswith("dense" if contrast == "ct" else "intense")


def test_kind_of_lesion_suits_the_contrast():
    def kinds(make, grid, **options):
        return {make(*grid, seed=seed, **options).lesion_kind for seed in range(6)}

    tiny, trunk = ((24, 24, 8), (9.0, 9.0, 20.0)), ((32, 28, 10), (12.0, 12.0, 20.0))
    assert kinds(phantom_head, tiny, contrast="flair") == kinds(phantom_head, tiny, contrast="t2") == {"hyperintense"}
    assert kinds(phantom_head, tiny, contrast="t1") == {"hypointense"}
    assert kinds(phantom_head, tiny, contrast="ct") == {"hyperdense", "hypodense"}
    assert kinds(phantom_head, tiny, contrast="random") == {"hyperintense", "hypointense"}
    assert kinds(phantom_abdomen, trunk) == kinds(phantom_abdomen, trunk, lesion="kidney") == {"hypodense"}
    assert kinds(phantom_abdomen, trunk, lesion=None) == {None}


@pytest.mark.parametrize(("make", "grid"), [(phantom_head, SMALL), (phantom_abdomen, TRUNK)])
@pytest.mark.parametrize("contrast", ["t2", "ct"])
def test_without_lesion_only_the_lesion_differs(make, grid, contrast):
    nothing = False if make is phantom_head else None
    with_lesion, without = (
        make(*grid, seed=3, contrast=contrast),
        make(*grid, seed=3, contrast=contrast, lesion=nothing),
    )
    assert not without.lesion.any()
    assert without.center_mm is without.radius_mm is without.lesion_kind is None
    np.testing.assert_array_equal(with_lesion.tissue, without.tissue)
    changed = positions(with_lesion, with_lesion.image != without.image)
    assert len(changed) > 0
    # The blur reaches three voxels.
    reach = with_lesion.radius_mm + 1.0 + 3.0 * np.linalg.norm(grid[1])
    assert np.linalg.norm(changed - with_lesion.center_mm, axis=1).max() < reach


@pytest.mark.parametrize("seed", range(3))
def test_hounsfield_units(seed):
    head = phantom_head((72, 88, 24), (2.5, 2.5, 7.0), seed=seed, contrast="ct")
    for tissue, low, high in (("AIR", -1024, -980), ("WHITE", 26, 32), ("CSF", -5, 35)):
        assert low <= typical(head, Tissue[tissue]) <= high, tissue
    assert 600 < np.percentile(head.image, 99) < 1250
    abdomen = phantom_abdomen((96, 80, 24), (4.0, 4.0, 8.0), seed=seed)
    for tissue, low, high in (
        ("AIR", -1024, -980),
        ("FAT", -110, -90),
        ("LIVER", 102, 114),
        ("SPLEEN", 112, 128),
        ("LUNG", -860, -820),
        ("VESSEL", 125, 160),
    ):
        assert low <= typical(abdomen, Tissue[tissue]) <= high, tissue


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_abdomen_has_its_organs_on_their_sides(seed):
    abdomen = phantom_abdomen((80, 60, 24), (5.0, 5.0, 9.0), seed=seed, lesion="kidney")
    litres = {t: (abdomen.tissue == t).sum() * 5.0 * 5.0 * 9.0 / 1e6 for t in Tissue}
    # The livers are 0.59 to 1.4 litres; seed 10,000 has the smallest of those that were tried.
    assert 0.5 < litres[Tissue.LIVER] < 2.6
    assert 0.04 < litres[Tissue.SPLEEN] < 0.6
    kidney = positions(abdomen, np.isin(abdomen.tissue, (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA)))
    assert 0.12 < len(kidney) * 5.0 * 5.0 * 9.0 / 1e6 < 0.6
    assert (kidney[:, 0] > 20).any()
    assert (kidney[:, 0] < -20).any()
    # RAS: the patient's right is positive.
    assert positions(abdomen, abdomen.tissue == Tissue.LIVER)[:, 0].mean() > 20
    assert positions(abdomen, abdomen.tissue == Tissue.SPLEEN)[:, 0].mean() < -40
    front, back = (positions(abdomen, abdomen.tissue == t)[:, 1].mean() for t in (Tissue.FLUID, Tissue.MARROW))
    assert front > back
    assert np.linalg.norm(kidney - abdomen.center_mm, axis=1).min() < 8.0


def test_random_contrasts_are_tied_to_no_sequence():
    ratios = []
    for seed in range(12):
        head = phantom_head((40, 48, 12), (4.5, 4.5, 14.0), seed=seed, lesion=False, contrast="random")
        fluid, white = (np.median(head.image[head.tissue == tissue]) for tissue in (Tissue.CSF, Tissue.WHITE))
        ratios.append(fluid / white)
    assert min(ratios) < 0.8
    assert max(ratios) > 1.25


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: phantom_head(contrast="pd"), r"contrast is 'pd'.*flair, t1, t2, ct, random"),
        (lambda: phantom_abdomen(contrast="flair"), r"contrast is 'flair'.*ct, t1, t2, random"),
        (lambda: phantom_abdomen(lesion="spleen"), r"lesion='spleen'.*'liver', 'kidney' or None"),
        (lambda: phantom_head(seed=-1), r"seed is -1"),
        (lambda: phantom_head((64, 64)), r"shape is \(64, 64\)"),
        (lambda: phantom_head((64, 64, 0)), r"shape is \(64, 64, 0\)"),
        (lambda: phantom_abdomen(spacing=(1.0, 0.0, 1.0)), r"spacing is"),
        (lambda: phantom_head((2, 2, 1), (200.0, 200.0, 4.0)), r"not contain a white matter"),
        (lambda: phantom_abdomen((8, 8, 2), (4.0, 4.0, 4.0)), r"not contain a liver"),
    ],
)
def test_what_cannot_be_made_is_refused(call, message):
    with pytest.raises(ConfigurationError, match=message):
        call()


def test_turned_moves_affine_and_center_together():
    head = phantom_head(*SMALL)
    assert head.center_mm is not None
    turned = head.turned((20.0, -10.0, 35.0))
    np.testing.assert_allclose(np.linalg.norm(turned.affine[:3, :3], axis=0), SMALL[1])
    index = np.linalg.inv(head.affine)[:3] @ [*head.center_mm, 1.0]
    np.testing.assert_allclose(turned.affine[:3] @ [*index, 1.0], np.asarray(turned.center_mm), atol=1e-9)
    assert not np.allclose(turned.affine, head.affine)
