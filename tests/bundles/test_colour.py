"""Photographs reach the networks of CLIP in their colours; the included model, which takes grey scans, refuses them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from tests.bundles.runs import BUNDLES, parser_of, run_small, small
from tests.data.odd_inputs.colour_images import skin, tissue

CLIP_BUNDLES = [bundle for bundle in BUNDLES if bundle.name != "tiny_screening"]
INCLUDED = next(bundle for bundle in BUNDLES if bundle.name == "tiny_screening")


def square(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[:, 10:70])


def two_pictures(folder: Path) -> Path:
    """A photograph without a black surround, and a grey scan, both of 60 x 60 pixels."""
    folder.mkdir()
    Image.fromarray(square(skin())).save(folder / "photo.png")
    Image.fromarray(square(tissue())).save(folder / "scan.png")
    return folder


def map_of(results: Path, case: str) -> np.ndarray:
    return np.asarray(nibabel.load(results / case / "anomaly.nii.gz").dataobj)


def chosen(bundle: Path) -> dict[str, Any]:
    own = parser_of(bundle)
    if "modality" not in own:
        return {}
    # The prompts that AA-CLIP was released with name neither anatomy nor modality.
    named = {"prompt_set": "aaclip_examination"} if own["prompt_set"] == "aaclip" else {}
    return {"anatomy": "skin", "modality": "dermoscopy", **named}


@pytest.mark.parametrize("bundle", CLIP_BUNDLES, ids=lambda folder: folder.name)
def test_a_photograph_is_screened_in_its_colours(bundle: Path, tmp_path: Path) -> None:
    scans, results = two_pictures(tmp_path / "scans"), tmp_path / "results"
    run_small(bundle, scans, results, **chosen(bundle))

    parser = parser_of(bundle, **small(bundle), **chosen(bundle))
    network = parser.get_parsed_content("network_def")
    network.load_weights(**dict.fromkeys(parser["released_weights"], "seed:0"))
    with torch.no_grad():
        expected = network(torch.from_numpy(square(skin())).permute(2, 0, 1)[None] / 255)[0, 0].numpy()
        grey = network(torch.from_numpy(square(skin())).float().mean(-1)[None, None] / 255)[0, 0].numpy()
    found = map_of(results, "photo")
    assert found.shape == (60, 60, 1)
    np.testing.assert_allclose(found[..., 0].T, expected, atol=1e-5)
    assert np.abs(grey - expected).max() > 1e-4

    findings = json.loads((results / "photo" / "findings.json").read_text(encoding="utf-8"))
    assert findings["scan"]["intensity"] == "8-bit colour divided by 255"
    page = (results / "photo" / "report.html").read_text(encoding="utf-8")
    assert "The image has its own colours." in page
    assert "The letters are the patient's sides." in (results / "scan" / "report.html").read_text(encoding="utf-8")
    with Image.open(results / "photo" / "preview.png") as preview:
        pixels = np.asarray(preview.convert("RGB")).reshape(-1, 3).astype(int)
    shown = np.abs(pixels - np.median(square(skin()).reshape(-1, 3), axis=0)).max(axis=1) < 12
    assert shown.mean() > 0.03, "the preview does not show the skin's colour"


def test_a_grey_scan_beside_photographs_keeps_its_map(tmp_path: Path) -> None:
    scans = two_pictures(tmp_path / "scans")
    bundle = next(bundle for bundle in CLIP_BUNDLES if bundle.name == "anoclip")
    run_small(bundle, scans, tmp_path / "both")
    run_small(bundle, scans / "scan.png", tmp_path / "alone", colour=False)
    np.testing.assert_array_equal(map_of(tmp_path / "both", "scan"), map_of(tmp_path / "alone", "scan"))


def test_the_included_model_refuses_a_photograph_and_names_a_bundle(tmp_path: Path) -> None:
    results = tmp_path / "results"
    with pytest.raises(SystemExit):
        run_small(INCLUDED, two_pictures(tmp_path / "scans"), results)
    with (results / "status.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    assert (rows["photo"]["status"], rows["photo"]["codes"]) == ("refused", "colour")
    assert "--bundle crane" in rows["photo"]["reason"]
    assert rows["scan"]["status"] == "repaired"
