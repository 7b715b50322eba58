from __future__ import annotations

import itk
import nibabel
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.transforms import LesionCandidates
from monai_zsad.writers import SaveLabelsd, save_segmentation
from monai_zsad.writers.figures.drawing import suspicion_colours
from tests.writers.screened import screened

TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_nrrd(path):
    """Labels (X, Y, Z), affine in RAS as ITK understands the file, and its header."""
    image = itk.imread(str(path))
    direction = itk.array_from_matrix(image.GetDirection())
    affine = np.eye(4)
    affine[:3, :3] = direction @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    header = image.GetMetaDataDictionary()
    texts = {key: header[key] for key in header.GetKeys() if key.startswith("Segment")}
    return itk.array_from_image(image).T, TO_LPS @ affine, texts


@pytest.fixture(scope="module", params=["LPS", "PSR"])
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    data = screened(codes=request.param)
    assert SaveLabelsd(output_dir=folder, seg_nrrd=True)(data) == data
    return data, folder / "head"


def test_label_map_has_the_grid_of_the_scan(written):
    data, folder = written
    image = nibabel.load(folder / "candidates.nii.gz")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(image.dataobj), data["pred_labels"][0].numpy())
    np.testing.assert_allclose(image.affine, data["pred"].affine, atol=1e-4)
    assert set(np.unique(image.dataobj)) == {0, 1, 2}


def test_segmentation_has_voxels_and_geometry(written):
    data, folder = written
    labels, affine, _ = read_nrrd(folder / "candidates.seg.nrrd")
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, data["pred_labels"][0].numpy())
    np.testing.assert_allclose(affine, data["pred"].affine, atol=1e-6)
    start = (folder / "candidates.seg.nrrd").read_bytes()[:400]
    assert start.startswith(b"NRRD")
    assert b"space: left-posterior-superior" in start
    assert b"encoding: gzip" in start


def test_segments_are_described(written):
    data, folder = written
    header = read_nrrd(folder / "candidates.seg.nrrd")[2]
    for index, found in enumerate(data["pred_candidates"]):
        own = {key.split("_", 1)[1]: text for key, text in header.items() if key.startswith(f"Segment{index}_")}
        assert own["Name"] == f"Candidate {found.id}"
        assert own["LabelValue"] == str(found.id)
        assert "~SCT^49755003^Morphologically Abnormal Structure~SCT^52988006^Lesion~" in own["Tags"]
        assert f"monai_zsad.peak_score:{found.peak_score:.6g}|" in own["Tags"]
        numbers = [int(number) for number in own["Extent"].split()]
        assert numbers == [number for start, stop in found.bounding_box for number in (start, stop - 1)]
    red, yellow = (float(header[f"Segment{index}_Color"].split()[1]) for index in (0, 1))
    assert red < 0.3 < 0.8 < yellow
    assert header["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"


def test_slicerio_reads_it(written):
    slicerio = pytest.importorskip("slicerio", reason="slicerio is not installed")
    data, folder = written
    segmentation = slicerio.read_segmentation(str(folder / "candidates.seg.nrrd"))
    np.testing.assert_array_equal(segmentation["voxels"], data["pred_labels"][0].numpy())
    np.testing.assert_allclose(TO_LPS @ segmentation["ijkToLPS"], data["pred"].affine, atol=1e-6)
    assert [(own["name"], own["labelValue"]) for own in segmentation["segments"]] == [
        ("Candidate 1", 1),
        ("Candidate 2", 2),
    ]
    assert segmentation["segments"][0]["terminology"]["type"][1] == "52988006"


@settings(max_examples=15, deadline=None)
@given(
    angle=st.floats(-3, 3),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    shift=st.tuples(*[st.floats(-300, 300)] * 3),
    mirrored=st.booleans(),
    size=st.tuples(*[st.integers(1, 5)] * 3),
)
@example(angle=0.0, spacing=(1.0, 1.0, 1.0), shift=(0.0, 0.0, 0.0), mirrored=False, size=(1, 1, 2))
def test_geometry_of_oblique_grids(tmp_path_factory, angle, spacing, shift, mirrored, size):
    turn = np.eye(3)
    turn[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.0 if mirrored else 1.0, 1, 1]) @ np.diag(spacing)
    affine[:3, 3] = shift
    labels = np.arange(np.prod(size)).reshape(size).astype(np.uint8)
    path = save_segmentation(labels, [], tmp_path_factory.mktemp("oblique") / "a.seg.nrrd", affine)
    read, found, _ = read_nrrd(path)
    np.testing.assert_array_equal(read, labels)
    np.testing.assert_allclose(found, affine, atol=1e-6)


def test_more_than_255_candidates(tmp_path):
    anomaly = torch.zeros(1, 14, 14, 14)
    anomaly[:, ::2, ::2, ::2] = torch.linspace(0.6, 0.9, 343).reshape(1, 7, 7, 7)
    labels, candidates = LesionCandidates(min_volume_mm3=0)(MetaTensor(anomaly, affine=torch.eye(4)))
    SaveLabelsd(output_dir=tmp_path, seg_nrrd=True)({"pred_labels": labels, "pred_candidates": candidates, "case": "a"})
    image = nibabel.load(tmp_path / "a" / "candidates.nii.gz")
    assert image.get_data_dtype() == np.uint16
    np.testing.assert_array_equal(np.asarray(image.dataobj), labels[0].numpy())
    read, _, header = read_nrrd(tmp_path / "a" / "candidates.seg.nrrd")
    assert (read.dtype, int(read.max()), header["Segment342_LabelValue"]) == (np.uint16, 343, "343")


def test_no_candidate_and_the_same_bytes_again(tmp_path):
    labels = np.zeros((3, 4, 1), np.uint8)
    paths = [save_segmentation(labels, [], tmp_path / f"{name}.seg.nrrd", np.eye(4)) for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert read_nrrd(paths[0])[0].shape == (3, 4, 1)


def test_what_is_no_label_map_is_refused(tmp_path):
    target = tmp_path / "a.seg.nrrd"
    for labels in (np.full((2, 2, 2), 0.5), np.full((2, 2, 2), -1), np.full((2, 2, 2), 70000), np.zeros((2, 2))):
        with pytest.raises(OutputError, match=r"not written, labels"):
            save_segmentation(labels, [], target, np.eye(4))
    with pytest.raises(ConfigurationError, match=r"ending \.seg\.nrrd"):
        save_segmentation(np.zeros((2, 2, 2)), [], tmp_path / "a.nrrd", np.eye(4))
    with pytest.raises(ConfigurationError, match="affine is missing"):
        save_segmentation(np.zeros((2, 2, 2)), [], target)
    with pytest.raises(ConfigurationError, match=r"output_ext is '\.png'"):
        SaveLabelsd(output_dir=tmp_path, output_ext=".png")
    with pytest.raises(OutputError, match="cannot be written"):
        save_segmentation(np.zeros((2, 2, 2)), [], tmp_path / "absent" / "a.seg.nrrd", np.eye(4))
    assert not list(tmp_path.iterdir())


def test_colours_follow_suspicion():
    assert suspicion_colours([]) == []
    assert suspicion_colours([0.5]) == suspicion_colours([0.2, 0.2])[:1]
    green = [colour[1] for colour in suspicion_colours([0.9, 0.7, 0.3])]
    assert green == sorted(green)
    assert green[0] < green[1]
