from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.transforms import CalibratedCandidatesd, LesionCandidatesd
from monai_zsad.workflow.calibration import Calibration, ReferenceScan, collect, load_calibration
from monai_zsad.writers import SaveFindingsd

MODEL = {"method": "crane", "image_size": 64, "weights": {"clip": {"name": "seed:0", "sha256": "", "seed": 0}}}
SETTINGS: dict[str, Any] = {"threshold": 0.5, "min_volume_mm3": 1.0}


def screened(case: str, peaks: tuple[float, ...], **changes: Any) -> dict[Any, Any]:
    """What a bundle has before the writers: a map with one candidate per peak."""
    values = torch.zeros(1, 20, 6, 6)
    for place, peak in enumerate(peaks):
        values[:, 4 * place : 4 * place + 2, 2:4, 2:4] = peak
    meta = {"modality": "MR", "intensity": f"percentiles 0.5 to 99.5 of the foreground ({len(case)} to 900)"}
    pred = MetaTensor(values, affine=torch.eye(4), meta=meta)
    data: dict[Any, Any] = {"case": case, "pred": pred, "volume_score": 0.1 * len(peaks), **changes}
    return LesionCandidatesd("pred", **SETTINGS)(data)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Findings of 19 reference scans, written by the writer; every fourth has no candidate."""
    folder = tmp_path_factory.mktemp("results")
    save = SaveFindingsd("pred", folder, meta=MODEL, settings=SETTINGS)
    for i in range(19):
        save(screened(f"s{i:02}", () if i % 4 == 0 else (0.6 + i / 100, 0.55)))
    return folder


def test_collected_from_findings_and_read_back(results, tmp_path):
    calibration = collect(results, bundle="crane")
    assert calibration.n == 19
    assert [scan.case for scan in calibration.scans] == [f"s{i:02}" for i in range(19)]
    assert calibration.scans[0] == ReferenceScan("s00", 0.0, None)
    assert calibration.scans[3].peak_score == 0.63
    assert calibration.threshold(0.05) == 0.78
    again = load_calibration(calibration.save(tmp_path / "c.json"))
    assert again == calibration
    assert again.summary(0.05) == {**calibration.summary(), "alpha": 0.05, "peak_threshold": 0.78}
    assert again.made_from["intensity"] == "percentiles 0.5 to 99.5 of the foreground"
    text = (tmp_path / "c.json").read_text()
    assert str(results) not in text
    assert json.loads(text)["schema_version"] == 1


def test_p_values_of_a_run(results):
    calibration = collect(results)
    judge = CalibratedCandidatesd("pred", calibration, meta=lambda: MODEL, settings=SETTINGS)
    data = screened("new", (0.9, 0.78, 0.775, 0.55))
    out = judge(data)
    assert out["pred_p_values"] == [0.05, 0.1, 0.1, 0.75]
    assert out["volume_p_value"] == 0.05
    assert out["pred_candidates"] == data["pred_candidates"]
    assert "pred_p_values" not in data
    assert judge(screened("none", ()))["pred_p_values"] == []


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model": {**MODEL, "image_size": 65}}, "model.image_size is 65.* 64"),
        ({"model": {**MODEL, "weights": {"clip": {"sha256": "ab"}}}}, "model.weights.clip.name is None"),
        ({"model": {**MODEL, "prompts": "other"}}, "model.prompts is 'other'"),
        ({"settings": {**SETTINGS, "threshold": 0.4}}, "settings.threshold is 0.4"),
        ({"data": {"modality": "CT"}}, "modality is 'CT'"),
        ({"data": {"intensity": "CT window brain 40/80 HU"}}, "intensity is 'CT window brain 40/80 HU'"),
        ({"data": {"volume_score_method": "max"}}, "volume_score_method is 'max'"),
    ],
)
def test_another_run_is_refused(results, changes, key):
    judge = CalibratedCandidatesd(
        "pred", collect(results), changes.get("model", MODEL), changes.get("settings", SETTINGS)
    )
    with pytest.raises(ConfigurationError, match=f"{key}.*calibrate"):
        judge(screened("new", (0.9,), **changes.get("data", {})))


def test_candidates_are_dropped_with_their_labels(results):
    judge = CalibratedCandidatesd("pred", collect(results), MODEL, SETTINGS, alpha=0.1)
    data = screened("new", (0.55, 0.9, 0.78))
    labels = data["pred_labels"].clone()
    out = judge(data)
    assert [found.peak_score for found in out["pred_candidates"]] == pytest.approx([0.9, 0.78])
    assert out["pred_p_values"] == [0.05, 0.1]
    assert out["pred_labels"].dtype == torch.uint8
    assert torch.equal(data["pred_labels"], labels)
    assert torch.equal(out["pred_labels"].as_tensor(), torch.where(labels.as_tensor() == 3, 0, labels.as_tensor()))
    assert torch.equal(out["pred_labels"].affine, labels.affine)
    with pytest.raises(ConfigurationError, match=r"alpha=0\.01 .*99.*19"):
        CalibratedCandidatesd("pred", collect(results), alpha=0.01)


def test_missing_data_are_named(results):
    judge = CalibratedCandidatesd("pred", collect(results), MODEL, SETTINGS)
    data = screened("new", ())
    for missing in ("pred_candidates", "volume_score"):
        with pytest.raises(InputError, match=missing):
            judge({key: value for key, value in data.items() if key != missing})


def test_mixed_results_are_refused(tmp_path):
    SaveFindingsd("pred", tmp_path, meta=MODEL, settings=SETTINGS)(screened("a", (0.7,)))
    SaveFindingsd("pred", tmp_path, meta={**MODEL, "image_size": 32}, settings=SETTINGS)(screened("b", (0.7,)))
    with pytest.raises(ConfigurationError, match=r"b.findings\.json: model\.image_size is 32.*case a.* 64"):
        collect(tmp_path)


def test_results_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match="has no findings"):
        collect(tmp_path)
    SaveFindingsd("pred", tmp_path / "x", meta=MODEL, settings=SETTINGS)(screened("a", (0.7,)))
    path = tmp_path / "x" / "a" / "findings.json"
    content = json.loads(path.read_text())

    def refused(text: str, reason: str, kind: type[Exception] = InputError) -> None:
        path.write_text(text)
        with pytest.raises(kind, match=rf"a.findings\.json: .*{reason}"):
            collect(tmp_path)

    refused(json.dumps({**content, "schema_version": 2}), "schema.*version 2")
    refused(json.dumps({**content, "volume_score": None}), "screen the scan again")
    refused(json.dumps({**content, "volume_score": float("nan")}), "volume_score=nan.*screen the scan again")
    refused(json.dumps({**content, "candidates": [{}]}), "peak_score.*screen the scan again")
    refused(json.dumps({**content, "calibration": {"alpha": 0.05}}), "calibration", ConfigurationError)
    refused(json.dumps(content)[:-20], "JSON")
    for other in ("x", "y"):
        SaveFindingsd("pred", tmp_path / other, meta=MODEL, settings=SETTINGS)(screened("a", (0.7,)))
    with pytest.raises(InputError, match="case a"):
        collect(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": "else"}, "schema 'else'"),
        ({"schema_version": 2}, "version 2"),
        ({"n": 3}, "n=3.* 1 "),
        ({"scans": []}, "scans"),
        ({"scans": [{"case": "a", "volume_score": None, "peak_score": None}]}, "make it again"),
        ({"scans": [{"case": "a", "volume_score": 1, "peak_score": float("inf")}]}, "peak_score=inf"),
        ({"made_from": None}, "make it again"),
    ],
)
def test_damaged_calibrations_are_refused(tmp_path, changes, reason):
    path = Calibration((ReferenceScan("a", 0.1, 0.2),), {"model": MODEL}).save(tmp_path / "c.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(InputError, match=reason):
        load_calibration(path)
    with pytest.raises(InputError, match=r"none\.json"):
        load_calibration(tmp_path / "none.json")


@given(st.lists(st.floats(0.5, 1, width=32), min_size=1, max_size=8))
def test_a_reference_scan_of_its_own_score_is_a_tie(peaks):
    """What is rounded in the JSON must not make a scan look more suspicious than itself."""
    scans = tuple(ReferenceScan(str(i), peak, round(peak, 6)) for i, peak in enumerate(peaks))
    calibration = Calibration(scans, {})
    for peak, p in zip(peaks, calibration.candidate_p_values(peaks), strict=True):
        assert p == calibration.volume_p_value(peak) >= 2 / (len(peaks) + 1)
