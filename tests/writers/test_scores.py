from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_zsad.errors import OutputError
from monai_zsad.writers import SEEDED_WARNING, SaveCased, SaveScoresd, is_seeded

AFFINE = torch.diag(torch.tensor([-0.5, 0.75, 3.0, 1.0], dtype=torch.float64))


def case(**changes):
    meta = {"modality": "CT", "warnings": "jitter\nMONOCHROME1", "intensity": "window brain"}
    slices = [{"slice": 0, "position_mm": [0.0, 0.0, 1.5], "score": np.float32(0.25), "scored": True}]
    data = {
        "case": "anna",
        "pred": MetaTensor(torch.zeros(1, 2, 3, 4), affine=AFFINE, meta=meta),
        "volume_score": torch.tensor(0.5),
        "slice_scores": slices,
    }
    return {**data, **changes}


def written(folder):
    return json.loads((folder / "anna" / "scores.json").read_text())


def test_content(tmp_path):
    data = case(volume_score_method="top_k_mean")
    SaveCased(keys="pred", output_dir=tmp_path)(data)
    assert SaveScoresd(keys="pred", output_dir=tmp_path, meta={"method": "crane"})(data) == data
    content = written(tmp_path)
    assert content.pop("software").keys() == {"monai_zsad", "monai", "torch"}
    assert content == {
        "schema_version": 1,
        "case": "anna",
        "volume_score": 0.5,
        "volume_score_method": "top_k_mean",
        "slice_scores": [{"slice": 0, "position_mm": [0.0, 0.0, 1.5], "score": 0.25, "scored": True}],
        "anomaly_map": "anomaly.nii.gz",
        "scan": {
            "shape": [2, 3, 4],
            "spacing_mm": [0.5, 0.75, 3.0],
            "orientation": "LAS",
            "modality": "CT",
            "intensity": "window brain",
        },
        "model": {"method": "crane"},
        "warnings": ["jitter", "MONOCHROME1"],
    }


def test_map_that_was_not_saved_is_not_named(tmp_path):
    SaveScoresd(keys="pred", output_dir=tmp_path)(case())
    assert written(tmp_path)["anomaly_map"] is None


def test_what_only_the_image_knows_is_found(tmp_path):
    data = case()
    data["image"], data["pred"] = data["pred"], MetaTensor(torch.zeros(1, 2, 3, 4), affine=AFFINE)
    SaveScoresd(keys="pred", output_dir=tmp_path)(data)
    assert written(tmp_path)["scan"]["intensity"] == "window brain"
    assert written(tmp_path)["warnings"] == ["jitter", "MONOCHROME1"]


@pytest.mark.parametrize(
    ("model", "seeded"),
    [
        ({"seeded": True}, True),
        ({"seeded": False}, False),
        ({"weights": {"clip": {"seed": 0}}}, True),
        ({"weights": {"clip": {"seed": None, "name": "openai"}}}, False),
        ({"clip_weights": "seed:3"}, True),
        ({}, False),
        (None, False),
    ],
)
def test_seeded_weights_are_said(tmp_path, model, seeded):
    assert is_seeded(model) is seeded
    SaveScoresd(keys="pred", output_dir=tmp_path, meta=model)(case())
    assert (SEEDED_WARNING in written(tmp_path)["warnings"]) is seeded


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"volume_score": float("nan")}, "scores.volume_score is nan"),
        ({"slice_scores": [{"score": torch.tensor(float("inf"))}]}, r"scores.slice_scores\[0\].score is inf"),
        ({"volume_score": None}, "no 'volume_score'"),
    ],
)
def test_incomplete_or_non_finite_scores_are_refused(tmp_path, changes, name):
    with pytest.raises(OutputError, match=name):
        SaveScoresd(keys="pred", output_dir=tmp_path)(case(**changes))
    assert not list(tmp_path.rglob("*.json"))


def test_description_may_be_asked_for_late(tmp_path):
    weights: dict[str, Any] = {}
    save = SaveScoresd(keys="pred", output_dir=tmp_path, meta=lambda: {"weights": weights})
    weights["clip"] = {"name": "seed:0", "seed": 0}
    save(case())
    assert written(tmp_path)["warnings"][0] == SEEDED_WARNING
