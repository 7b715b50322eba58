"""Pixels and positions of what was written, read back with pydicom and compared with each source file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from pydicom.uid import UID
from scipy.spatial.transform import Rotation

from monai_zsad.errors import OutputError
from monai_zsad.writers.dicom import dicom_parametric_map, read_source
from tests.data.samples import write_series
from tests.writers.dicom.results import (
    LPS,
    MODEL,
    SERIES,
    Case,
    dciodvfy_errors,
    frames_by_source,
    make_case,
    read,
    read_result,
    save,
    series,
)


def slice_of(case: Case, source: pydicom.Dataset) -> int:
    """Index of a source file's slice, from its position alone."""
    position = np.linalg.inv(LPS @ case.affine) @ [*map(float, source.ImagePositionPatient), 1.0]
    np.testing.assert_allclose(position[[0, 1, 3]], [0, 0, 1], atol=1e-4)
    assert abs(position[2] - round(position[2])) < 1e-4
    return round(position[2])


@pytest.mark.parametrize("kind", SERIES)
def test_every_frame_lies_on_the_source_that_it_names(tmp_path, kind):
    case = make_case(series(tmp_path / "in", kind))
    paths = save(case, tmp_path / "out")
    pm, seg = pydicom.dcmread(paths["pm"]), pydicom.dcmread(paths["seg"])
    sources = [pydicom.dcmread(file) for file in case.files]
    maps, segments = frames_by_source(pm), frames_by_source(seg)
    assert len(maps) == len(sources)
    seen = np.zeros_like(case.labels)
    for source in sources:
        k = slice_of(case, source)
        groups, frame = maps[source.SOPInstanceUID, 0]
        np.testing.assert_array_equal(frame, case.values[:, :, k].T)
        assert groups.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
        for number in range(1, len(case.candidates) + 1):
            found = segments.get((source.SOPInstanceUID, number))
            expected = np.equal(case.labels[:, :, k].T, number)
            assert (found is None) == (not expected.any())
            if found is not None:
                groups, frame = found
                np.testing.assert_array_equal(frame, expected)
                assert groups.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
                seen[:, :, k] += number * frame.T
    np.testing.assert_array_equal(seen, case.labels)
    for result in (pm, seg):
        shared = result.SharedFunctionalGroupsSequence[0]
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == sources[0].ImageOrientationPatient
        measures = shared.PixelMeasuresSequence[0]
        assert measures.PixelSpacing == sources[0].PixelSpacing
        if len(sources) > 1:
            assert float(measures.SpacingBetweenSlices) == pytest.approx(abs(SERIES[kind].get("step", 2.5)))
        assert result.FrameOfReferenceUID == sources[0].FrameOfReferenceUID
        assert result.StudyInstanceUID == sources[0].StudyInstanceUID
        assert {item.ReferencedSOPInstanceUID for item in result.SourceImageSequence} == {
            source.SOPInstanceUID for source in sources
        }


@pytest.mark.parametrize("kind", [kind for kind in SERIES if kind != "one slice"])
def test_map_reads_back_as_the_volume_that_it_was(tmp_path, kind):
    case = make_case(series(tmp_path / "in", kind))
    path = save(case, tmp_path / "out", kinds="pm")["pm"]
    np.testing.assert_array_equal(read_result(path, case.affine), case.values)


@pytest.mark.parametrize("kind", SERIES)
def test_frames_of_the_map_follow_the_cross_product_of_its_directions(tmp_path, kind):
    case = make_case(series(tmp_path / "in", kind))
    source = read_source(case.files, case.affine, case.values.shape)
    assert source is not None
    result = dicom_parametric_map(case.values, source, MODEL)
    (plane,) = result.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    normal = np.cross(plane.ImageOrientationPatient[:3], plane.ImageOrientationPatient[3:])
    groups = result.PerFrameFunctionalGroupsSequence
    along = [normal @ np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float) for group in groups]
    assert along == sorted(along)
    # The object knows the new order before it is written, too.
    result.save_as(tmp_path / "pm.dcm")
    np.testing.assert_array_equal(result.get_volume().array, highdicom.imread(tmp_path / "pm.dcm").get_volume().array)


@pytest.mark.parametrize("span", [(0.0, 1.0), (-3.0, 5.0)])
def test_sixteen_bits_keep_the_map_within_half_a_step(tmp_path, span):
    files = series(tmp_path / "in")
    values = np.random.default_rng(1).uniform(span[0], span[1], (5, 7, 6)).astype(np.float32)
    case = make_case(files, values=values)
    pm = pydicom.dcmread(save(case, tmp_path / "out", kinds=("pm",), map_dtype="uint16")["pm"])
    mapping = pm.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    slope, intercept = mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept
    assert slope <= (span[1] - span[0]) / 65535 * 1.0001
    for file in case.files:
        source = pydicom.dcmread(file)
        _, frame = frames_by_source(pm)[source.SOPInstanceUID, 0]
        error = np.abs(frame * slope + intercept - values[:, :, slice_of(case, source)].T)
        assert error.max() <= slope / 2 * 1.001


def test_a_compressed_map_reads_back_as_the_uncompressed_one(tmp_path):
    files = series(tmp_path / "in", Rows=64, Columns=48, PixelData=bytes(64 * 48 * 2))
    for index, file in enumerate(files):
        image = pydicom.dcmread(file)
        image.PixelData = np.full(64 * 48, index, "<i2").tobytes()
        image.save_as(file)
    values = np.linspace(0, 1, 48 * 64 * 6, dtype=np.float32).reshape(48, 64, 6)
    case = make_case(files, values=values)
    path = save(case, tmp_path / "out", kinds=("pm",), map_dtype="uint16")["pm"]
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.name.startswith("JPEG-LS Lossless")
    assert path.stat().st_size < values.size * 2
    assert dciodvfy_errors(path) <= dciodvfy_errors(save(case, tmp_path / "plain", kinds=("pm",))["pm"])
    assert np.abs(read_result(path, case.affine) - values).max() <= 0.501 / 65535


def test_multi_frame_source_in_its_own_order_of_frames(tmp_path):
    import highdicom

    files = series(
        tmp_path / "in",
        sop_class="1.2.840.10008.5.1.4.1.1.2",
        modality="CT",
        InstanceNumber=lambda index: [3, 1, 6, 2, 5, 4][index],
        PatientPosition="HFS",
        KVP="120",
        AcquisitionNumber=1,
    )
    legacy = [pydicom.dcmread(file) for file in files]
    enhanced = highdicom.legacy.LegacyConvertedEnhancedCTImage(legacy, "1.2.3", 1, "1.2.3.4", 1)
    path = tmp_path / "enhanced.dcm"
    enhanced.save_as(path)
    case = make_case([path])
    assert case.values.shape == (5, 7, 6)
    pm = pydicom.dcmread(save(case, tmp_path / "out")["pm"])
    frames = pm.pixel_array
    named = []
    for groups, frame in zip(pm.PerFrameFunctionalGroupsSequence, frames, strict=True):
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        number = int(source.ReferencedFrameNumber)
        origin = enhanced.PerFrameFunctionalGroupsSequence[number - 1].PlanePositionSequence[0]
        assert groups.PlanePositionSequence[0].ImagePositionPatient == origin.ImagePositionPatient
        np.testing.assert_array_equal(frame, case.values[:, :, slice_of(case, origin)].T)
        named.append(number)
    assert sorted(named) == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(read_result(tmp_path / "out" / "anna" / "pm.dcm", case.affine), case.values)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    step=st.floats(0.3, 8.0),
    backwards=st.booleans(),
    slices=st.integers(2, 5),
)
def test_slices_are_matched_by_position(angles, step, backwards, slices):
    frame = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    orientation = tuple(float(value) for value in np.round(frame[:2].ravel(), 9))
    with tempfile.TemporaryDirectory() as folder:
        files = write_series(
            Path(folder), slices=slices, step=-step if backwards else step, orientation=orientation, SliceThickness=step
        )
        values, affine = read(files)
        source = read_source(files[1:] + files[:1], affine, values.shape)
        assert source is not None
        for k, image in enumerate(source.images):
            np.testing.assert_allclose(
                [float(value) for value in image.ImagePositionPatient], (LPS @ affine)[:3] @ [0, 0, k, 1], atol=1e-4
            )
        stored = {ds.SOPInstanceUID: ds.pixel_array for ds in map(pydicom.dcmread, files)}
        for image, pixels in zip(source.images, source.frames(values), strict=True):
            np.testing.assert_array_equal(pixels, stored[image.SOPInstanceUID])


def moved(case: Case, affine: np.ndarray) -> Case:
    pred = case.data["pred"]
    meta = {"source_files": pred.meta["source_files"]}
    return Case(
        case.files,
        {**case.data, "pred": MetaTensor(pred.as_tensor(), affine=torch.from_numpy(affine), meta=meta)},
        case.values,
        affine,
        case.labels,
    )


@pytest.mark.parametrize(
    "change",
    [
        np.diag([-1.0, 1.0, 1.0, 1.0]),
        np.diag([1.05, 1.0, 1.0, 1.0]),
        np.diag([1.0, 1.0, 1.1, 1.0]),
        np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]),
        np.array([[1.0, 0, 0, 0.5], [0, 1, 0, 0.5], [0, 0, 1, 0.5], [0, 0, 0, 1]]),
        np.array([[0, 1.0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    ],
    ids=["mirrored", "stretched", "other distance", "one slice off", "half a voxel off", "axes swapped"],
)
def test_map_on_another_grid_is_refused(tmp_path, change):
    case = make_case(series(tmp_path / "in"))
    with pytest.raises(OutputError, match="not on the grid of these files"):
        save(moved(case, case.affine @ change), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.dcm"))


def test_jitter_that_the_reader_allows_is_kept(tmp_path):
    shifts = [0.0, 0.03, -0.03, 0.02, 0.0, 0.01]
    normal = [0.0, 0.0, 1.0]
    files = series(
        tmp_path / "in",
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        ImagePositionPatient=lambda i: [0.0, 0.0, (2.5 * i + shifts[i]) * normal[2]],
    )
    case = make_case(files)
    frames = frames_by_source(pydicom.dcmread(save(case, tmp_path / "out")["pm"]))
    for source in map(pydicom.dcmread, files):
        groups, _ = frames[source.SOPInstanceUID, 0]
        assert groups.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient


def test_duplicate_that_the_reader_set_aside_is_not_named(tmp_path):
    files = series(tmp_path / "in")
    case = make_case(files)
    copy = pydicom.dcmread(files[2])
    copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    copy.save_as(tmp_path / "in" / "copy.dcm")
    case.data["pred"].meta["source_files"] += f"\n{tmp_path / 'in' / 'copy.dcm'}"
    pm = pydicom.dcmread(save(case, tmp_path / "out")["pm"])
    assert pm.NumberOfFrames == 6
    assert "1.2.3.4" not in {item.ReferencedSOPInstanceUID for item in pm.SourceImageSequence}
