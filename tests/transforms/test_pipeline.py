"""The transforms one after the other and back: synthetic grids of every kind, and real scans."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, LoadImaged
from scipy.ndimage import binary_erosion
from scipy.spatial.transform import Rotation

from monai_zsad.transforms import (
    BodyCropd,
    InPlaneSpacingd,
    ScanIntensityd,
    SquarePadd,
    UprightOrientationd,
)

PLANES = ["axial", "coronal", "sagittal", "acquisition"]


@st.composite
def grids(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, ...], np.ndarray, np.ndarray]:
    """Rotation times signed permutation, shape, and first and last voxel of a box inside it."""
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from([1.0, -1.0])] * 3))
    tilt = Rotation.from_euler("xyz", draw(st.tuples(*[st.floats(-20, 20)] * 3)), degrees=True)
    shape = draw(st.tuples(*[st.integers(5, 16)] * 3))
    start = np.array([draw(st.integers(0, size - 4)) for size in shape])
    stop = np.array([draw(st.integers(int(first) + 4, size)) for first, size in zip(start, shape, strict=True)])
    return tilt.as_matrix() @ (np.eye(3)[:, order] * signs), shape, start, stop


def there_and_back(
    values: np.ndarray, affine: np.ndarray, box: tuple[slice, ...], plane: str, margin: float, nearest: bool
) -> tuple[MetaTensor, MetaTensor, MetaTensor]:
    """Source, what a network sees, and the identity network's result on the source's grid."""
    image = MetaTensor(torch.from_numpy(values)[None], affine=torch.from_numpy(affine))
    body = MetaTensor(torch.zeros(image.shape), affine=torch.from_numpy(affine))
    inside = (slice(None), *box)
    body[inside] = 1
    keys = ["image", "body"]
    before = Compose(
        [
            UprightOrientationd(keys, plane),
            BodyCropd(keys, source_key="body", margin_mm=margin, foreground=lambda mask: mask > 0),
            InPlaneSpacingd(keys),
            SquarePadd(keys),
        ]
    )
    data = before({"image": image, "body": body})
    assert data["image"].shape[1] == data["image"].shape[2]
    data["pred"] = data["image"].clone()
    seen = data["image"].clone()
    out = Invertd("pred", before, orig_keys="image", nearest_interp=nearest)(data)["pred"]
    assert out.shape == image.shape
    np.testing.assert_allclose(out.affine, affine, atol=1e-6)
    return image, seen, out


@settings(max_examples=80, deadline=None)
@given(grids(), st.floats(0.3, 5), st.sampled_from(PLANES), st.sampled_from([0, 0.5, 1, 1.9, 4]), st.booleans())
def test_without_resampling_every_voxel_comes_back_exactly(grid, spacing, plane, margin, nearest):
    matrix, shape, start, stop = grid
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix * spacing, (10, -20, 30)
    values = np.random.default_rng(0).normal(1000, 10, shape).astype(np.float32)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    image, _, out = there_and_back(values, affine, box, plane, margin * spacing, nearest)
    wide = int(np.ceil(margin))
    kept = torch.zeros(image.shape, dtype=torch.bool)
    widened = (slice(None), *(slice(max(0, a - wide), b + wide) for a, b in zip(start, stop, strict=True)))
    kept[widened] = True
    inner = torch.zeros_like(kept)
    box_index = (slice(None), *box)
    inner[box_index] = True
    assert torch.equal(out.as_tensor()[inner], image.as_tensor()[inner])
    assert torch.equal(out.as_tensor()[kept], image.as_tensor()[kept])
    assert float(out.as_tensor()[~kept].abs().sum()) == 0


@settings(max_examples=80, deadline=None)
@given(grids(), st.tuples(*[st.floats(0.4, 4)] * 3), st.sampled_from(PLANES))
def test_with_resampling_a_smooth_field_comes_back_within_one_interpolation(grid, spacing, plane):
    """Linear interpolation of sin(k.x) errs by at most h^2 k^2 / 8 per axis; here once there and once back.

    There, only the coarser in-plane axis is interpolated (spacing h); back, both are, at a finer spacing. So three
    times h^2 k^2 / 8 bounds the sum, one voxel away from the edges of the box, where the outermost voxel is repeated.
    """
    matrix, shape, start, stop = grid
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix * spacing, (10, -20, 30)
    k = 0.25 / max(spacing) * np.array([0.6, -0.64, 0.48])
    world = np.einsum("ij,jxyz->ixyz", affine[:3, :3], np.indices(shape)) + affine[:3, 3, None, None, None]
    values = (2 + np.sin(np.einsum("i,ixyz->xyz", k, world))).astype(np.float32)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    image, seen, out = there_and_back(values, affine, box, plane, 0.0, nearest=False)
    fine = np.linalg.norm(seen.affine[:3, :3], axis=0)
    np.testing.assert_allclose(fine[0], fine[1], rtol=1e-3)
    inside = np.zeros(shape, dtype=bool)
    inside[box] = True
    assert float(out.as_tensor()[0][torch.from_numpy(~inside)].abs().sum()) == 0
    interior = torch.from_numpy(binary_erosion(inside))
    bound = 3 * (max(spacing) * 0.25 / max(spacing)) ** 2 / 8 + 1e-3
    error = (out.as_tensor() - image.as_tensor())[0][interior].abs()
    assert float(error.max()) <= bound


def pipeline(plane: str, *more: str) -> Compose:
    keys = ["image", *more]
    return Compose(
        [
            LoadImaged(keys, reader="NibabelReader", ensure_channel_first=True),
            UprightOrientationd(keys, plane),
            ScanIntensityd("image"),
            BodyCropd(keys),
            InPlaneSpacingd(keys),
            SquarePadd(keys),
        ]
    )


def centroid(weights: torch.Tensor) -> np.ndarray:
    return np.argwhere(np.asarray(weights) > 0).mean(axis=0)


@pytest.fixture(scope="module")
def brain(shared: Path) -> Path:
    return shared / "data" / "ms3d" / "patient19_FLAIR.nii.gz"


def test_brain_is_upright(brain):
    """In MNI space what lies below z = -45 mm is cerebellum and brain stem: posterior and inferior of the brain."""
    axial = pipeline("axial")({"image": str(brain)})["image"]
    assert axial.meta["intensity"].startswith("percentiles")
    low = round((-45 - float(axial.affine[2, 3])) / float(axial.affine[2, 2]))
    tissue = axial[0] > 0.3
    assert centroid(tissue[..., :low])[0] > centroid(tissue)[0] + 15  # further down in the picture
    assert abs(centroid(tissue)[1] - (axial.shape[2] - 1) / 2) < 5  # left and right are even
    assert tissue[..., low].sum() < 0.7 * tissue.sum(dim=(0, 1)).max()

    sagittal = pipeline("sagittal")({"image": str(brain)})["image"]
    middle = sagittal[0, ..., sagittal.shape[3] // 2] > 0.3
    row = round((-45 - float(sagittal.affine[2, 3])) / float(sagittal.affine[2, 0]))
    assert centroid(middle[row:])[1] > centroid(middle)[1] + 15  # further right in the picture


@pytest.mark.parametrize("plane", ["axial", "coronal"])
def test_patients_right_is_on_the_left_of_the_picture(brain, plane):
    load = LoadImaged("image", reader="NibabelReader", ensure_channel_first=True)
    data = load({"image": str(brain)})
    world = torch.tensor([50.0, 10.0, 20.0, 1.0]).double()
    i, j, k = (torch.linalg.inv(data["image"].affine) @ world).round().int()[:3].tolist()
    data["image"][0, i - 2 : i + 3, j - 2 : j + 3, k - 2 : k + 3] = 1e4
    out = Compose(pipeline(plane).transforms[1:])(data)["image"]
    row, column, slice_ = (torch.linalg.inv(out.affine) @ world).round().int()[:3].tolist()
    assert column < out.shape[2] / 2 - 20
    assert float(out[0, row - 2 : row + 3, column - 2 : column + 3, slice_].min()) == 1


@pytest.mark.parametrize(("plane", "patient"), list(itertools.product(PLANES, ["07", "19"])))
def test_lesions_keep_their_place_and_come_back_exactly(shared, plane, patient):
    folder = shared / "data" / "ms3d"
    before = pipeline(plane, "label")
    files = {
        "image": str(folder / f"patient{patient}_FLAIR.nii.gz"),
        "label": str(folder / f"patient{patient}_lesions.nii.gz"),
    }
    source = before.transforms[0](files)
    data = before(files)
    assert int(data["label"].sum()) == int(source["label"].sum())
    where = [
        (v["label"].affine @ torch.tensor([*centroid(v["label"][0]), 1.0]).double()).numpy() for v in (source, data)
    ]
    np.testing.assert_allclose(where[0], where[1], atol=1e-6)
    bright = data["image"][data["label"] > 0].mean()
    assert float(bright) > float(data["image"][data["image"] > 0].mean()) + 0.15
    back = Invertd("label", before, orig_keys="image")(data)["label"]
    assert torch.equal(back.as_tensor(), source["label"].as_tensor())
    np.testing.assert_allclose(back.affine, source["label"].affine, atol=1e-9)


def test_thick_oblique_slices_stay_slices(shared):
    before = pipeline("acquisition")
    data = before({"image": str(shared / "data" / "mslong" / "patient20_study2_FLAIR.nii.gz")})
    out = data["image"]
    np.testing.assert_allclose(np.linalg.norm(out.affine[:3, :3], axis=0), [0.898, 0.898, 3], atol=2e-3)
    data["pred"] = torch.ones_like(out)
    back = Invertd("pred", before, orig_keys="image")(data)["pred"]
    assert back.shape == (1, 256, 256, 44)
    np.testing.assert_allclose(back.affine, back.meta["original_affine"], atol=1e-9)
    assert 0.3 < float(back.mean()) < 1
