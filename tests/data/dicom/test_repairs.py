"""Repairs of DICOM series that are asked for: every value where its slice says."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import LoadImage, SpatialResample
from scipy.spatial.transform import Rotation

from monai_zsad.data import REPAIRABLE, ScanReader
from monai_zsad.errors import InputError
from tests.data.samples import CT, write_series

SPACING = (0.75, 0.5)
SHAPE = (40, 48)


def frame_of(angles) -> np.ndarray:
    """Directions along a row, along a column, and of the normal, in LPS."""
    frame = Rotation.from_euler("xyz", angles).as_matrix()
    axes = np.round(frame[:2], 8)
    return np.stack([*axes, np.cross(*axes)])


def write(folder, field, frame, places, tilt=0.0, towards=0.0):
    """Slices of a field of LPS positions; ``tilt`` in degrees moves them ``towards`` an angle in their plane."""
    sideways = np.cos(towards) * frame[0] + np.sin(towards) * frame[1]
    positions = [
        np.round(np.array([-11.0, 7.0, 40.0]) + p * frame[2] + p * np.tan(np.radians(tilt)) * sideways, 6)
        for p in places
    ]
    rows, columns = np.indices(SHAPE)

    def pixels(index):
        points = positions[index] + np.multiply.outer(columns * SPACING[1], frame[0])
        points = points + np.multiply.outer(rows * SPACING[0], frame[1])
        return np.rint((field(points) + 1024) / 0.1).astype("<i2").tobytes()

    return write_series(
        folder,
        slices=len(places),
        sop_class=CT,
        modality="CT",
        orientation=tuple(frame[:2].ravel()),
        ImagePositionPatient=lambda i: positions[i].tolist(),
        PixelSpacing=list(SPACING),
        Rows=SHAPE[0],
        Columns=SHAPE[1],
        RescaleSlope=0.1,
        PixelData=pixels,
    )


def read(files, *repair):
    return LoadImage(ScanReader(repair=repair), ensure_channel_first=True)([str(file) for file in files])


def world_of(image) -> np.ndarray:
    """LPS position of every voxel, (X, Y, Z, 3)."""
    index = np.indices(image.shape[1:]).reshape(3, -1)
    ras = image.affine.numpy() @ np.vstack([index, np.ones(index.shape[1])])
    return (ras[:3] * [[-1], [-1], [1]]).T.reshape(*image.shape[1:], 3)


def assert_right_angled(image, frame, step):
    axes = image.affine.numpy()[:3, :3] * [[-1], [-1], [1]]
    np.testing.assert_allclose(axes, frame.T * [SPACING[1], SPACING[0], step], atol=1e-6)


def gradient(points):
    return points @ np.array([0.9, -1.3, 0.7]) * 3


def assert_gradient(image, covered):
    """Linear interpolation reproduces a linear field wherever there are slices; elsewhere is the fill value."""
    expected, values = gradient(world_of(image)), image[0].numpy()
    inside = values > values.min()
    np.testing.assert_allclose(values[inside], expected[inside], atol=0.11)
    assert inside.sum() >= covered * np.prod(SHAPE) * image.shape[-1]


tilts = st.floats(10, 20).flatmap(lambda angle: st.sampled_from([angle, -angle]))


@settings(max_examples=12)
@given(angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3), tilt=tilts, towards=st.floats(-3.1, 3.1))
def test_every_value_of_a_tilted_series_is_in_place(tmp_path_factory, angles, tilt, towards):
    frame = frame_of(angles)
    files = write(tmp_path_factory.mktemp("s"), gradient, frame, 2.5 * np.arange(6), tilt, towards)
    with pytest.raises(InputError, match=r"tilted gantry.*repair=\['tilted-gantry'\]"):
        read(files)
    image = read(files, "tilted-gantry")
    assert_right_angled(image, frame, 2.5)
    assert_gradient(image, 0.9)
    assert image.meta["warning_codes"] == "tilt-resheared"
    assert f"tilted by {abs(tilt):.1f} degrees" in image.meta["warnings"]


@pytest.mark.parametrize("tilt", [-20, -14, 10, 17])
@pytest.mark.parametrize("towards", [0, np.pi / 2])
def test_an_object_keeps_its_place_and_form(tmp_path, tilt, towards):
    """An ellipsoid with soft edge: centre and extent, in LPS, to a tenth of the smallest voxel side."""
    frame = frame_of((0.3, -0.8, 1.1))
    radii = np.array([5.0, 6.0, 5.0])
    middle = np.array([-11.0, 7.0, 40.0]) + frame.T @ [11.6, 15.1, 12.3]

    def ball(points):
        return 1000 * np.exp(-0.5 * (((points - middle) / radii) ** 2).sum(-1) * 4)

    shift = np.tan(np.radians(tilt)) * 12.3 * (np.cos(towards) * frame[0] + np.sin(towards) * frame[1])
    middle = middle + shift
    files = write(tmp_path, ball, frame, 1.25 * np.arange(21), tilt, towards)
    image = read(files, "tilted-gantry")
    weights, points = image[0].numpy().ravel(), world_of(image).reshape(-1, 3)
    weights = np.maximum(weights, 0) / np.maximum(weights, 0).sum()
    centre = weights @ points
    np.testing.assert_allclose(centre, middle, atol=0.05)
    spread = np.sqrt(weights @ (points - centre) ** 2)
    np.testing.assert_allclose(spread, radii / 2, atol=0.1)


@settings(max_examples=8)
@given(data=st.data(), angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3), step=st.floats(0.5, 5.0))
def test_gaps_are_filled_and_named(tmp_path_factory, data, angles, step):
    frame = frame_of(angles)
    gone = data.draw(st.sets(st.integers(2, 8), min_size=1, max_size=3))
    kept = [index for index in range(11) if index not in gone]
    files = write(tmp_path_factory.mktemp("s"), gradient, frame, step * np.array(kept))
    with pytest.raises(InputError, match=r"slices are missing.*repair=\['missing-slices'\]"):
        read(files)
    image = read(files, "missing-slices")
    assert image.shape[-1] == 11
    assert_right_angled(image, frame, step)
    assert_gradient(image, 0.99)
    assert image.meta["warning_codes"] == "slices-interpolated"
    for file in files:
        ds = pydicom.dcmread(file)
        k = round(float(np.dot(np.array(ds.ImagePositionPatient) - [-11, 7, 40], frame[2])) / step)
        stored = (ds.pixel_array.T * 0.1 - 1024).astype(np.float32)
        np.testing.assert_allclose(image[0, :, :, k].numpy(), stored, atol=1e-3)
    if gone == {2, 3, 4}:
        assert "number 3 to 5 of 11" in image.meta["warnings"]


def test_uneven_slices_with_a_gap_and_a_tilt_at_once(tmp_path):
    frame = frame_of((0.1, 0.2, 0.3))
    files = write(tmp_path, gradient, frame, np.array([0, 1.0, 2.1, 3.4, 4.4, 7.9, 9.0]), 12)
    with pytest.raises(InputError) as caught:
        read(files, "missing-slices")
    assert "repair=['missing-slices', 'uneven-slices']" in str(caught.value)
    with pytest.raises(InputError, match="tilted gantry"):
        read(files, "missing-slices", "uneven-slices")
    image = read(files, *REPAIRABLE)
    assert_right_angled(image, frame, 9.0 / 8)
    assert_gradient(image, 0.9)
    assert image.meta["warning_codes"].splitlines() == ["slices-resampled", "tilt-resheared"]


def test_what_is_not_asked_for_stays_refused(tmp_path):
    files = write(tmp_path, gradient, frame_of((0, 0, 0)), 2.5 * np.arange(6), 12)
    with pytest.raises(InputError) as caught:
        read(files, *(REPAIRABLE - {"tilted-gantry"}))
    assert caught.value.code == "tilted-gantry"


def test_a_regular_series_is_read_as_without_repairs(tmp_path):
    files = write(tmp_path, gradient, frame_of((0.4, 0.2, -2)), 2.5 * np.arange(6))
    plain, asked = read(files), read(files, *REPAIRABLE)
    np.testing.assert_array_equal(plain.numpy(), asked.numpy())
    np.testing.assert_array_equal(plain.affine.numpy(), asked.affine.numpy())
    assert asked.meta["warnings"] == ""


def test_the_limit_of_the_size_holds_for_the_grid(tmp_path):
    places = np.array([0, 1, 2, 7, 8, 9])
    files = write(tmp_path, gradient, frame_of((0, 0, 0)), places)
    reader = ScanReader(repair="missing-slices", max_voxels=8 * SHAPE[0] * SHAPE[1])
    with pytest.raises(InputError) as caught:
        reader.get_data(files)
    assert caught.value.code == "too-large"


def test_dropped_duplicates_are_named_by_their_number(tmp_path):
    files = write_series(tmp_path / "DOE^JOHN")
    extra = pydicom.dcmread(files[2])
    extra.InstanceNumber, extra.SOPInstanceUID = 99, pydicom.uid.generate_uid()
    extra.PixelData = bytes(70)
    extra.save_as(tmp_path / "DOE^JOHN" / "extra.dcm")
    with pytest.raises(InputError, match="more than one slice"):
        read([*files, tmp_path / "DOE^JOHN" / "extra.dcm"])
    image = read([tmp_path / "DOE^JOHN" / "extra.dcm", *files], "duplicate-slices")
    np.testing.assert_array_equal(image.numpy(), read(files).numpy())
    assert image.meta["warnings"].endswith("dropped: InstanceNumber 99")
    assert "DOE" not in image.meta["warnings"]


def test_frames_of_an_enhanced_file_are_repaired_too(tmp_path, shared):
    from highdicom.legacy import LegacyConvertedEnhancedMRImage

    files = sorted((shared / "data" / "dicom_vs_seg_001").glob("*.dcm"))
    headers = [pydicom.dcmread(file) for file in files]
    headers.sort(key=lambda ds: float(ds.SliceLocation))
    plane = headers[0].ImageOrientationPatient
    normal = np.cross([float(v) for v in plane[:3]], [float(v) for v in plane[3:]])
    assert abs(normal).max() > 0.5
    complete = headers[40:47]
    kept = [ds for index, ds in enumerate(complete) if index != 3]
    enhanced = LegacyConvertedEnhancedMRImage(kept, pydicom.uid.generate_uid(), 9, pydicom.uid.generate_uid(), 1)
    enhanced.save_as(tmp_path / "enhanced")
    with pytest.raises(InputError, match="slices are missing"):
        read([tmp_path / "enhanced"])
    image = read([tmp_path / "enhanced"], "missing-slices")
    for index, ds in enumerate(complete):
        ds.save_as(tmp_path / f"{index}.dcm")
    whole = read([tmp_path / f"{index}.dcm" for index in range(7)])
    np.testing.assert_allclose(image.affine.numpy(), whole.affine.numpy(), atol=1e-3)
    measured = [0, 1, 2, 4, 5, 6]
    np.testing.assert_array_equal(image.numpy()[..., measured], whole.numpy()[..., measured])
    middle = (whole.numpy()[..., 2] + whole.numpy()[..., 4]) / 2
    np.testing.assert_allclose(image.numpy()[..., 3], middle, rtol=1e-5)


def test_a_repaired_volume_resamples_like_any_other(tmp_path):
    """MONAI takes the affine as it is: resampled onto the grid of a series without tilt, the values agree."""
    frame = frame_of((0.2, 0.1, 0.4))
    tilted = read(write(tmp_path / "a", gradient, frame, 2.5 * np.arange(6), 15), "tilted-gantry")
    straight = read(write(tmp_path / "b", gradient, frame, 2.5 * np.arange(6)))
    moved = SpatialResample(mode="bilinear", padding_mode="zeros")(
        tilted, dst_affine=straight.affine, spatial_size=straight.shape[1:]
    )
    centre = (slice(None), slice(10, 30), slice(10, 30), slice(1, -1))
    np.testing.assert_allclose(moved[centre].numpy(), straight[centre].numpy(), atol=0.2)
