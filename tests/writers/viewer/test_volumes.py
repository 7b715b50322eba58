"""Cropping, thinning and 8 bit: every voxel stays at its place in mm, and keeps its value to within a step."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest

from monai_zsad.transforms.hu_windows import CT_WINDOWS
from monai_zsad.writers.figures.views import View, make_view
from monai_zsad.writers.pages.viewer.volumes import CT_PRESETS, Volumes, pack
from tests.writers.viewer.phantoms import AFFINES, LESION, head


def read(content: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


def packed(affine=None, *, ids=(1,), is_ct=False, largest=10**8, **options) -> tuple[View, Volumes]:
    found = head(affine, **options)
    view = make_view(found.image, found.anomaly_map, None, None, found.labels)
    return view, pack(view, ids, is_ct, largest=largest)


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("largest", [10**8, 30_000], ids=["whole", "thinned"])
def test_the_lesion_stays_at_its_place(name, largest):
    _, volumes = packed(AFFINES[name], largest=largest)
    assert (volumes.thinned == (1, 1, 1)) == (largest == 10**8)
    wanted = (AFFINES[name] @ [*LESION, 1])[:3]
    longest = np.linalg.norm(AFFINES[name][:3, :3], axis=0).max() * max(volumes.thinned)
    for file in (volumes.anomaly, volumes.scan):
        image = read(file)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        inside = np.argwhere(image.get_fdata() > (0.9 if file is volumes.anomaly else 560))
        centre = (image.affine @ [*inside.mean(axis=0), 1])[:3]
        assert np.linalg.norm(centre - wanted) < 0.5 * longest


def test_scan_and_map_keep_their_values():
    view, volumes = packed()
    for file, values in ((volumes.scan, view.scan), (volumes.anomaly, view.heat)):
        image = read(file)
        start = np.rint(np.linalg.inv(view.affine) @ image.affine[:, 3]).astype(int)[:3]
        own = values[tuple(slice(first, first + size) for first, size in zip(start, image.shape, strict=True))]
        assert np.abs(image.get_fdata() - own).max() <= 0.51 * image.dataobj.slope + 1e-6
        assert image.get_data_dtype() == np.uint8


def test_the_scan_is_cropped_to_the_body_with_a_margin():
    view, volumes = packed(shape=(96, 96, 96))
    assert read(volumes.scan).shape == (96, 96, 96)  # the body and 10 voxels
    air = np.zeros((200, 96, 96))
    air[:96] = view.scan
    found = pack(make_view(air, air, np.eye(4), None))
    assert read(found.scan).shape[0] < 120


def test_a_candidate_outside_of_the_body_is_not_cropped():
    found = head(shape=(120, 60, 40))
    found.image[:] = 0
    found.image[0, 60:100, 10:50, 10:30] = 100
    view = make_view(found.image, found.anomaly_map, None, None, found.labels)
    image = read(pack(view, [1], False).outlines)
    assert image.get_fdata().max() == 2


def test_outlines_are_the_edges_of_the_candidates_in_the_plane():
    view, volumes = packed()
    image = read(volumes.outlines)
    place = np.linalg.inv(image.affine) @ view.affine @ [*LESION, 1]
    plane = image.get_fdata()[:, :, round(float(place[2]))]
    x, y = (round(float(value)) for value in place[:2])
    assert plane[x, y] == 0
    assert plane[x + 4, y] == plane[x, y - 4] == 2
    assert not read(packed(ids=())[1].outlines).get_fdata().any()


def test_a_ct_keeps_soft_tissue_to_one_hu_and_all_windows():
    values = np.linspace(-1024, 3000, 30**3).reshape(30, 30, 30)
    found = pack(make_view(values, values, np.eye(4), None), is_ct=True)
    image = read(found.scan)
    levels = np.array(found.levels)
    assert len(levels) == 256
    back = levels[np.asarray(image.dataobj).astype(int)]
    start = np.rint(image.affine[:3, 3]).astype(int)
    own = values[tuple(slice(first, first + size) for first, size in zip(start, image.shape, strict=True))]
    error = np.abs(back - own)
    assert error[(own > 0) & (own < 80)].max() <= 1.5
    for level, width in CT_PRESETS.values():
        shown = (own > level - width / 2) & (own < min(level + width / 2, 2900))
        assert error[shown].max() < 0.04 * width


@pytest.mark.parametrize(
    ("is_ct", "air", "tissue", "wanted"),
    [(None, -1000.0, 40.0, True), (None, 0.0, 400.0, False), (True, 0.0, 0.5, False), (False, -1000.0, 40.0, False)],
)
def test_what_is_taken_for_a_ct(is_ct, air, tissue, wanted):
    assert bool(packed(is_ct=is_ct, air=air, tissue=tissue)[1].levels) is wanted


def test_presets_are_the_windows_of_the_transforms():
    assert {name: CT_WINDOWS[name.replace(" ", "_")] for name in CT_PRESETS} == CT_PRESETS


def test_large_scans_are_thinned_along_the_finest_axis():
    _, volumes = packed(np.diag([0.5, 0.5, 4.0, 1.0]), largest=20_000)
    assert volumes.thinned[2] == 1 < volumes.thinned[0]
    assert len(volumes.scan) + len(volumes.anomaly) < 30_000


def test_a_constant_scan_and_map():
    flat = np.full((8, 8, 8), 3.0)
    found = pack(make_view(flat, flat, np.eye(4), None))
    assert read(found.scan).get_fdata().max() == pytest.approx(3.0)
