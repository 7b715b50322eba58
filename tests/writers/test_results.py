"""One writer for all files of a case: the same files as its single writers, in the right order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.writers import (
    CaseWriter,
    RunSettings,
    SaveCased,
    SaveDicomd,
    SaveFindingsd,
    SaveLabelsd,
    SaveManifestd,
    SavePreviewd,
    SaveReportd,
    SaveResultsd,
    SaveScoresd,
    verify_manifest,
)
from monai_zsad.writers.results import slice_by_slice
from tests.writers.dicom.results import make_case, read_result, series
from tests.writers.screened import SETTINGS, screened

MODEL = {"method": "crane", "weights": {"clip": {"name": "ViT-L-14-336", "seed": None}}}
RUN = RunSettings(findings=SETTINGS, files={"findings": SETTINGS, "amp": False})


@pytest.fixture(scope="module")
def data() -> dict[Any, Any]:
    found = screened(codes="LPS")
    scan = found.pop("image")
    return {**found, "scan": scan, "slice_scores": [{"slice": 0, "score": 0.25}]}


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_files_are_those_of_the_single_writers(data, tmp_path):
    single, together = tmp_path / "single", tmp_path / "together"
    common: dict[str, Any] = {"keys": "pred", "output_dir": single, "meta": lambda: MODEL}
    for writer in (
        SaveCased("pred", single, output_dtype="float32"),
        SavePreviewd(**common, image_key="scan", labels_key="pred_labels", plane="coronal"),
        SaveLabelsd("pred_labels", single, "pred_candidates", seg_nrrd=True),
        SaveReportd(**common, settings=RUN.findings, image_key="scan"),
        SaveFindingsd(**common, settings=RUN.findings),
        SaveScoresd(**common, map_ext=".nii.gz"),
        SaveManifestd(**common, settings=RUN.files, image_key="scan"),
    ):
        writer(data)
    save = SaveResultsd("pred", together, lambda: MODEL, RUN, plane="coronal", seg_nrrd="true")
    assert save(data) == data
    assert isinstance(save, CaseWriter)
    assert files(together) == files(single)
    assert len(files(together)) == 9
    manifest = json.loads((together / "head" / "manifest.json").read_text())
    assert len(manifest["files"]) == 8, "the manifest names all other files"
    assert verify_manifest(together, "head") == []


def test_options_choose_the_writers(tmp_path):
    usual = [SaveCased, SavePreviewd, SaveLabelsd, SaveReportd, SaveFindingsd, SaveScoresd, SaveManifestd]
    assert [type(writer) for writer in SaveResultsd(output_dir=tmp_path).writers] == usual
    chosen = SaveResultsd(output_dir=tmp_path, report="false", dicom=["seg", "sr"], plane="acquisition").writers
    assert [type(writer) for writer in chosen] == [*usual[:3], SaveDicomd, *usual[4:]]
    light, full = (SaveResultsd(output_dir=tmp_path, report=kind).writers[3] for kind in ("light", True))
    assert isinstance(light, SaveReportd)
    assert isinstance(full, SaveReportd)
    assert (light.viewer, full.viewer) == (False, True)
    assert isinstance(chosen[1], SavePreviewd)
    assert chosen[1].plane is None


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"keys": ["pred", "other"]}, "keys"),
        ({"report": "perhaps"}, "report"),
        ({"output_ext": ".png"}, "output_ext"),
        ({"dicom": ["sr"]}, "kinds"),
    ],
)
def test_wrong_options_are_refused_at_once(tmp_path, wrong, named):
    with pytest.raises(ConfigurationError, match=named):
        SaveResultsd(**{"output_dir": tmp_path, **wrong})


def test_a_failed_writer_leaves_the_case_incomplete(data, tmp_path):
    with pytest.raises(OutputError, match="slice_scores"):
        SaveResultsd(output_dir=tmp_path, report=False)({**data, "slice_scores": None})
    assert verify_manifest(tmp_path, "head") != []
    assert (tmp_path / "head" / "findings.json").is_file()


def test_missing_keys(tmp_path):
    assert SaveResultsd(output_dir=tmp_path, allow_missing_keys=True)({"case": "anna"}) == {"case": "anna"}
    assert files(tmp_path) == {}


@pytest.mark.parametrize("output_dtype", ["float32", "uint16"])
def test_sizes_and_values_of_map_and_parametric_map(tmp_path, output_dtype):
    case = make_case(series(tmp_path / "in"))
    found = {**case.data, "scan": case.data["image"], "volume_score": 0.5, "slice_scores": []}
    SaveResultsd("pred", tmp_path / "out", MODEL, output_dtype=output_dtype, dicom=("pm",))(found)
    stored = nibabel.load(tmp_path / "out" / "anna" / "anomaly.nii.gz")
    parametric = pydicom.dcmread(tmp_path / "out" / "anna" / "pm.dcm")
    assert stored.get_data_dtype() == np.dtype(output_dtype)
    bound = 0.0 if output_dtype == "float32" else 1.02 / 131070
    assert np.abs(stored.get_fdata() - case.values).max() <= bound
    assert ("FloatPixelData" in parametric) == (output_dtype == "float32")
    read_back = read_result(tmp_path / "out" / "anna" / "pm.dcm", case.affine)
    assert np.abs(read_back - case.values).max() <= bound


def test_the_order_of_the_memory_changes_no_value_and_no_file(data, tmp_path):
    other = MetaTensor(data["pred"].permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)).copy_meta_from(data["pred"])
    assert other.stride() != data["pred"].stride()
    turned = slice_by_slice(other)
    assert torch.equal(turned, data["pred"])
    assert torch.equal(turned.affine, data["pred"].affine)
    assert turned[0].permute(2, 1, 0).is_contiguous()
    for name, pred in {"a": data["pred"], "b": other}.items():
        SaveResultsd("pred", tmp_path / name, lambda: MODEL, RUN)({**data, "pred": pred})
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_map_that_cannot_be_written_fails_the_case(data, tmp_path, monkeypatch):
    def full(image, stream):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nibabel.Nifti1Image, "to_stream", full)
    with pytest.raises(OutputError, match="no space left"):
        SaveResultsd("pred", tmp_path, lambda: MODEL, RUN)(data)
    assert verify_manifest(tmp_path, "head") != []
