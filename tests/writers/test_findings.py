from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from monai_zsad.errors import OutputError
from monai_zsad.writers import (
    FINDINGS_COLUMNS,
    SEEDED_WARNING,
    UNFAMILIAR_WARNING,
    SaveFindingsd,
    SaveLabelsd,
    SavePreviewd,
    SaveReportd,
    findings,
    findings_rows,
    findings_schema,
)
from tests.writers.screened import PLANTED_TEXTS, SETTINGS, screened

MODEL = {"method": "crane", "weights": {"clip": {"name": "ViT-L-14-336", "seed": None}}}


@pytest.fixture(scope="module")
def data():
    return screened(codes="LPS")


def check(content):
    schema = findings_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(content, schema)
    return content


def test_written_json_follows_the_schema_and_every_field_is_in_it(data, tmp_path):
    told = {**data, "unfamiliar": False, "unfamiliarity": 0.4}
    SaveFindingsd("pred", tmp_path, meta=MODEL, settings=SETTINGS)(told)
    content = check(json.loads((tmp_path / "head" / "findings.json").read_text()))
    schema = findings_schema()
    assert content.keys() == schema["properties"].keys()
    assert content["scan"].keys() == schema["properties"]["scan"]["properties"].keys()
    assert content["settings"].keys() == schema["properties"]["settings"]["properties"].keys()
    assert content["candidates"][0].keys() == schema["$defs"]["candidate"]["properties"].keys()
    assert len(content["candidates"]) == 2
    assert content["settings"] == SETTINGS
    assert content["scan"]["orientation"] == "LPS"
    np.testing.assert_allclose(content["scan"]["affine_ras"], data["pred"].affine)
    assert content["scan"]["intensity"] == "percentiles 1 to 99 of the body"
    assert content["warnings"] == ["uneven slices"]
    assert content["files"] == {"table": "findings.csv"}
    assert content["calibration"] is None
    assert content["volume_p_value"] is None


@pytest.mark.parametrize("change", [{"case": 7}, {"schema_version": 2}, {"volume_p_value": 1.5}, {"candidates": [{}]}])
def test_schema_refuses_what_is_none(data, change):
    with pytest.raises(jsonschema.ValidationError):
        check({**findings(data), **change})


def test_calibration_and_seeded_weights(data):
    calibrated = {**data, "pred_p_values": [0.02, 0.5], "volume_p_value": 0.04, "calibration": {"n": 49}}
    content = check(findings(calibrated, model={"clip": "seed:0"}))
    assert [found["p_value"] for found in content["candidates"]] == [0.02, 0.5]
    assert (content["volume_p_value"], content["calibration"]) == (0.04, {"n": 49})
    assert content["warnings"] == [SEEDED_WARNING, "uneven slices"]
    assert content["settings"] == dict.fromkeys(SETTINGS)


def test_unfamiliar_scans_and_networks_that_cannot_tell(data):
    content = check(findings({**data, "unfamiliar": True, "unfamiliarity": 2.5}, model={"clip": "seed:0"}))
    assert (content["unfamiliar"], content["unfamiliarity"]) == (True, 2.5)
    assert content["warnings"] == [SEEDED_WARNING, UNFAMILIAR_WARNING, "uneven slices"]
    assert {"unfamiliar", "unfamiliarity"}.isdisjoint(findings(data))


def test_rows_have_the_columns_and_the_values(data, tmp_path):
    SaveFindingsd("pred", tmp_path)(data)
    with (tmp_path / "head" / "findings.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == FINDINGS_COLUMNS
    found = data["pred_candidates"][0]
    assert (rows[0]["case"], rows[0]["id"], rows[0]["p_value"]) == ("head", "1", "")
    assert float(rows[0]["volume_mm3"]) == pytest.approx(found.volume_mm3)
    assert [float(rows[0][f"peak_lps_{axis}_mm"]) for axis in "xyz"] == pytest.approx(found.peak_lps_mm)
    assert [int(rows[0][f"peak_voxel_{axis}"]) for axis in "ijk"] == list(found.peak_voxel)
    assert (int(rows[0]["box_k_start_voxel"]), int(rows[0]["box_k_stop_voxel"])) == found.bounding_box[2]
    assert (int(rows[0]["first_slice"]), int(rows[0]["last_slice"])) == found.slice_range
    assert [row["id"] for row in rows] == ["1", "2"]
    # Every field of a candidate has its columns.
    named = set(findings(data)["candidates"][0])
    assert len(findings_rows(findings(data))[0]) == len(FINDINGS_COLUMNS)
    assert all(any(name.split("_")[0] in column for column in FINDINGS_COLUMNS) for name in named - {"bounding_box"})


def test_no_candidate_is_a_result_too(data, tmp_path):
    nothing = {**data, "pred_candidates": [], "pred_labels": torch.zeros_like(data["pred_labels"])}
    SaveFindingsd("pred", tmp_path)(nothing)
    assert check(json.loads((tmp_path / "head" / "findings.json").read_text()))["candidates"] == []
    assert (tmp_path / "head" / "findings.csv").read_text() == ",".join(FINDINGS_COLUMNS) + "\n"


def test_what_cannot_be_written_is_refused_by_name(data, tmp_path):
    first, second = data["pred_candidates"]
    spoilt = [first, replace(second, peak_score=float("nan"))]
    changes: list[tuple[dict[Any, Any], str]] = [
        ({"pred_candidates": spoilt}, r"findings.candidates\[1\].peak_score is nan"),
        ({"volume_score": torch.tensor(float("inf"))}, "findings.volume_score is inf"),
        ({"pred_p_values": [0.1]}, "pred_p_values has 1 values for 2 candidates"),
        ({"pred_candidates": None}, "no 'pred_candidates' in the data: put LesionCandidatesd"),
        ({"volume_score": None}, "no 'volume_score'"),
    ]
    for change, words in changes:
        with pytest.raises(OutputError, match=words):
            SaveFindingsd("pred", tmp_path)({**data, **change})
    assert not list(tmp_path.rglob("*.*"))


def test_no_file_shows_what_stood_in_the_meta_data(tmp_path):
    """Names, ids, dates, descriptions and paths of the source; in compressed files, too."""
    data = screened(case="c01")
    for save in (
        SaveLabelsd(output_dir=tmp_path, seg_nrrd=True),
        SavePreviewd("pred", output_dir=tmp_path, labels_key="pred_labels"),
        SaveReportd("pred", tmp_path, meta=MODEL, settings=SETTINGS, pictures=1),
        SaveFindingsd("pred", tmp_path, meta=MODEL, settings=SETTINGS),
    ):
        assert save(data) == data
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) == 6
    named = json.loads((tmp_path / "c01" / "findings.json").read_text())["files"]
    assert sorted(named) == ["candidates", "preview", "report", "segmentation", "table"]
    for path in files:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = path.name.lower() + content.decode("latin-1").lower()
        for planted in PLANTED_TEXTS:
            assert planted not in text, (path.name, planted)


@pytest.mark.parametrize(
    ("own", "given", "modality", "source"),
    [
        ("MR", "FLAIR", "MR", None),
        ("", "FLAIR", "FLAIR", "option"),
        ("", "any", None, None),
        ("", None, None, None),
    ],
)
def test_modality_of_a_scan_that_does_not_say_it(data, own, given, modality, source):
    unknown = {**data, "modality": own}
    for name in ("image", "pred"):
        unknown[name] = data[name].clone()
        unknown[name].meta.pop("modality")
    run = {"bundle": "tiny_screening", "modality": given, "measured": "not here"}
    content = check(findings(unknown, run=run))
    assert (content["scan"]["modality"], content["scan"]["modality_source"]) == (modality, source)
    assert content["run"] == {
        **dict.fromkeys(("prompt_set", "anatomy", "states")),
        "bundle": "tiny_screening",
        "modality": given,
    }
    without = findings(unknown)
    changed = {"run": content["run"], "scan": content["scan"]}
    assert {**without, **changed} == content, "nothing else depends on it"
