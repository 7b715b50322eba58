"""One writer for all files of a case: the same files as its single writers, in the right order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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
    manifest = json.loads((together / "head" / "head_manifest.json").read_text())
    assert len(manifest["files"]) == 8, "the manifest names all other files"
    assert verify_manifest(together, "head") == []


def test_options_choose_the_writers(tmp_path):
    usual = [SaveCased, SavePreviewd, SaveLabelsd, SaveReportd, SaveFindingsd, SaveScoresd, SaveManifestd]
    assert [type(writer) for writer in SaveResultsd(output_dir=tmp_path).writers] == usual
    chosen = SaveResultsd(output_dir=tmp_path, report="false", dicom=["seg", "sr"], plane="acquisition").writers
    assert [type(writer) for writer in chosen] == [*usual[:3], SaveDicomd, *usual[4:]]
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
    assert (tmp_path / "head" / "head_findings.json").is_file()


def test_missing_keys(tmp_path):
    assert SaveResultsd(output_dir=tmp_path, allow_missing_keys=True)({"case": "anna"}) == {"case": "anna"}
    assert files(tmp_path) == {}
