from __future__ import annotations

import gzip
import os
from typing import Any

import itk
import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import SaveImaged

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.writers import AtomicNibabelWriter, SaveCased

AFFINE = torch.tensor([[0, -2.0, 0.1, 5], [1.5, 0, 0, -6], [0, 0.1, 3, 7], [0, 0, 0, 1]], dtype=torch.float64)


@settings(max_examples=15, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 6)] * 3), channels=st.integers(1, 2), seed=st.integers(0, 99))
def test_written_volume_is_the_given_one(tmp_path_factory, shape, channels, seed):
    folder = tmp_path_factory.mktemp("out")
    values = torch.rand((channels, *shape), generator=torch.Generator().manual_seed(seed))
    data: dict[Any, Any] = {"pred": MetaTensor(values, affine=AFFINE), "case": "anna"}
    before = values.clone()
    assert SaveCased(keys="pred", output_dir=folder)(data)["pred"] is data["pred"]
    assert torch.equal(data["pred"].as_tensor(), before)
    image = nibabel.load(folder / "anna" / "anomaly.nii.gz")
    expected = values[0].numpy() if channels == 1 else np.moveaxis(values.numpy(), 0, -1)
    assert image.get_data_dtype() == np.float32
    # NIfTI itself drops a last axis of length 1 beyond the third, never one of the first three.
    np.testing.assert_array_equal(np.asarray(image.dataobj).reshape(expected.shape), expected)
    assert image.shape[:3] == shape
    np.testing.assert_allclose(image.affine, AFFINE.numpy(), atol=1e-6)
    assert os.listdir(folder / "anna") == ["anomaly.nii.gz"]


def test_two_runs_give_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        SaveCased(keys="pred", output_dir=tmp_path / folder)({"pred": MetaTensor(torch.ones(1, 3, 4, 5)), "case": "x"})
    first, second = ((tmp_path / folder / "x" / "anomaly.nii.gz").read_bytes() for folder in ("a", "b"))
    assert first == second


def test_bfloat16_and_several_keys(tmp_path):
    pred = MetaTensor(torch.full((1, 2, 2, 2), 0.5, dtype=torch.bfloat16), affine=AFFINE)
    save = SaveCased(keys=("pred", "gone"), output_dir=tmp_path, output_postfix=("map", "b"), allow_missing_keys=True)
    save({"pred": pred, "case": "x"})
    assert float(nibabel.load(tmp_path / "x" / "map.nii.gz").get_fdata().max()) == 0.5


def test_non_finite_values_are_refused_before_writing(tmp_path):
    pred = MetaTensor(torch.tensor([0.0, float("nan")]).reshape(1, 1, 1, 2), affine=AFFINE)
    with pytest.raises(OutputError, match="1 of 2 values are NaN or infinite"):
        SaveCased(keys="pred", output_dir=tmp_path)({"pred": pred, "case": "x"})
    assert not list(tmp_path.rglob("*.nii.gz"))


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    data: dict[Any, Any] = {"pred": MetaTensor(torch.zeros(1, 2, 2, 2), affine=AFFINE), "case": "x"}
    SaveCased(keys="pred", output_dir=tmp_path)(data)
    old = (tmp_path / "x" / "anomaly.nii.gz").read_bytes()

    def full(image, stream):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nibabel.Nifti1Image, "to_stream", full)
    with pytest.raises(OutputError, match="no space left"):
        SaveCased(keys="pred", output_dir=tmp_path)({**data, "pred": data["pred"] + 1})
    assert (tmp_path / "x" / "anomaly.nii.gz").read_bytes() == old
    assert os.listdir(tmp_path / "x") == ["anomaly.nii.gz"]


@pytest.mark.parametrize("writer", [AtomicNibabelWriter, "monai_zsad.writers.AtomicNibabelWriter"])
def test_writer_in_monais_own_transform(tmp_path, writer):
    pred = MetaTensor(torch.rand(1, 2, 3, 4), affine=AFFINE, meta={"filename_or_obj": "anna.nii.gz"})
    SaveImaged(keys="pred", writer=writer, output_dir=tmp_path, output_postfix="anomaly", resample=False)(
        {"pred": pred}
    )
    image = nibabel.load(tmp_path / "anna" / "anna_anomaly.nii.gz")
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), pred[0].numpy())


@pytest.mark.parametrize(("name", "value"), [("output_ext", ".nrrd"), ("output_dtype", "float16")])
def test_formats_that_nifti_lacks(tmp_path, name, value):
    with pytest.raises(ConfigurationError, match=f"{name} is '{value}'; give"):
        SaveCased(keys="pred", output_dir=tmp_path, **{name: value})


@pytest.mark.parametrize("dtype", ["float32", np.float64, torch.float32, None])
def test_types(tmp_path, dtype):
    SaveCased(keys="pred", output_dir=tmp_path, output_dtype=dtype)(
        {"pred": MetaTensor(torch.ones(1, 2, 2, 2)), "case": "x"}
    )
    assert nibabel.load(tmp_path / "x" / "anomaly.nii.gz").get_fdata().max() == 1


@pytest.mark.parametrize(("dtype", "steps"), [("uint16", 65535), ("int16", 65535), ("uint8", 255)])
@pytest.mark.parametrize("span", [(0.0, 1.0), (-3.0, 5.0)])
def test_integers_hold_a_map_within_half_a_step_of_its_range(tmp_path, dtype, steps, span):
    values = torch.empty(1, 9, 8, 7).uniform_(*span, generator=torch.Generator().manual_seed(0))
    SaveCased(keys="pred", output_dir=tmp_path, output_dtype=dtype)(
        {"pred": MetaTensor(values, affine=AFFINE), "case": "x"}
    )
    path = tmp_path / "x" / "anomaly.nii.gz"
    image = nibabel.load(path)
    assert image.get_data_dtype() == np.dtype(dtype)
    half_a_step = float(values.max() - values.min()) / steps / 2
    found = np.abs(image.get_fdata() - values[0].numpy())
    assert 0 < found.max() <= half_a_step * 1.02
    np.testing.assert_allclose(itk.array_from_image(itk.imread(path)).T, image.get_fdata(), atol=1e-5)


def test_whole_numbers_need_no_slope(tmp_path):
    values = torch.arange(24.0).reshape(1, 2, 3, 4)
    SaveCased(keys="pred", output_dir=tmp_path, output_dtype="uint8")(
        {"pred": MetaTensor(values, affine=AFFINE), "case": "x"}
    )
    image = nibabel.load(tmp_path / "x" / "anomaly.nii.gz")
    assert (image.get_data_dtype(), image.dataobj.slope) == (np.uint8, 1)
    np.testing.assert_array_equal(image.get_fdata(), values[0].numpy())


def test_equal_volumes_give_equal_files_that_gzip_finds_intact(tmp_path):
    values = torch.rand(1, 40, 30, 20, generator=torch.Generator().manual_seed(0))
    paths = []
    for case in ("a", "b"):
        SaveCased(keys="pred", output_dir=tmp_path)({"pred": MetaTensor(values, affine=AFFINE), "case": case})
        paths.append(tmp_path / case / "anomaly.nii.gz")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    content = gzip.decompress(paths[0].read_bytes())
    assert content[352:] == np.asfortranarray(values[0].numpy()).tobytes(order="F")
