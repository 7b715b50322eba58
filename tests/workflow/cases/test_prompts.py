from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine

from monai_zsad.prompts import PromptEnsemble
from monai_zsad.workflow.cases.prompts import ScanPrompts
from tests.bundles.runs import ROOT, run_small
from tests.data.samples import CT, write_nifti, write_series
from tests.networks.zoo import anoclip, crane

TINY = ROOT / "tiny_screening"


def named(modality: str | None) -> PromptEnsemble:
    return PromptEnsemble.named("medical", anatomy="brain", modality=modality)


@pytest.fixture(scope="module")
def network() -> Any:
    return anoclip()


@pytest.fixture
def following(network: Any) -> ScanPrompts:
    """A handler of the configured prompts. The network is as at the start."""
    network.prompts = named(None)
    network.update_text_anchors()
    return ScanPrompts(network, named)


def batch(modality: str) -> dict[str, Any]:
    return {"case": ["anna"], "modality": [modality], "image": torch.zeros(1, 1, 4, 4, 4)}


def run(handler: ScanPrompts, *modalities: str) -> list[torch.Tensor]:
    """The text anchors of the network for each case."""
    seen: list[torch.Tensor] = []
    engine = Engine(lambda *_: seen.append(handler.network.text_anchors.clone()))
    handler.attach(engine)
    engine.run([batch(modality) for modality in modalities])
    return seen


@pytest.mark.parametrize(("modality", "key"), [("CT", "ct"), ("MR", "mri"), ("DX", "xray"), ("US", "ultrasound")])
def test_prompts_are_those_of_the_modality(following: ScanPrompts, modality: str, key: str) -> None:
    assert following.of(modality) == named(key)


def test_general_prompts_for_an_unknown_modality(following: ScanPrompts, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        anchors = run(following, "", "PT")
    assert torch.equal(anchors[0], anchors[1])
    assert following.of("") == following.of("PT") == named(None)
    assert "anna: intensities:" in caplog.text
    assert "prompts: general" in caplog.text
    assert "'PT'" in caplog.text


def test_each_case_has_its_own_prompts(following: ScanPrompts, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        general, ct, mr, again, last = run(following, "", "CT", "MR", "CT", "")
    assert torch.equal(general, last)
    assert torch.equal(ct, again)
    assert not torch.equal(general, ct)
    assert not torch.equal(ct, mr)
    assert "prompts: for CT" in caplog.text
    own = anoclip()
    own.prompts = named("CT")
    own.update_text_anchors()
    assert torch.equal(own.text_anchors, ct)


def test_what_the_user_chose_stays(network: Any) -> None:
    network.prompts = named("FLAIR")
    assert ScanPrompts(network, named, modality="FLAIR").of("CT") == named("FLAIR")
    # Prompts that were replaced as a whole.
    network.prompts = PromptEnsemble(["fine"], ["ill"])
    assert ScanPrompts(network, named).of("CT") == PromptEnsemble(["fine"], ["ill"])


def test_a_set_without_a_place_for_modalities_stays(network: Any) -> None:
    def aaclip(modality: str | None) -> PromptEnsemble:
        return PromptEnsemble.named("aaclip", modality=modality)

    network.prompts = aaclip(None)
    assert ScanPrompts(network, aaclip).of("CT") == aaclip(None)


def test_fixed_text_anchors_stay(following: ScanPrompts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following.network, "fixed_anchors", True)
    assert following.of("CT") == named(None)


def test_a_method_without_prompts() -> None:
    prompts = ScanPrompts(crane())
    assert prompts.of("CT") is None
    assert prompts.describe("CT") == prompts.network.describe()
    run(prompts, "CT")


def test_description_is_that_of_the_run(following: ScanPrompts) -> None:
    before = {modality: following.describe(modality) for modality in ("CT", "MR", "")}
    assert len({content["prompts"]["sha256"] for content in before.values()}) == 3
    for modality, content in before.items():
        run(following, modality)
        assert following.network.describe() == content


def findings(folder: Path, case: str) -> dict[str, Any]:
    return json.loads((folder / case / "findings.json").read_text(encoding="utf-8"))


def test_a_folder_of_several_modalities(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scans = tmp_path / "in"
    write_series(scans / "ct", modality="CT", sop_class=CT, RescaleSlope=1.0)
    write_series(scans / "mr", number=2)
    write_nifti(scans / "other.nii.gz", (10, 9, 5))
    with caplog.at_level(logging.INFO):
        run_small(TINY, scans, tmp_path / "out", case_names="files", device="cpu")  # equal to the bit
    assert "ct: intensities: CT window soft_tissue 40/400 HU; prompts: for CT" in caplog.text
    assert "mr: intensities: percentiles 0.5 to 99.5" in caplog.text
    prompts = {case: findings(tmp_path / "out", case)["model"]["prompts"]["sha256"] for case in ("ct", "mr", "other")}
    assert prompts == {
        "ct": PromptEnsemble.named("screening", modality="CT").fingerprint()["sha256"],
        "mr": PromptEnsemble.named("screening", modality="MR").fingerprint()["sha256"],
        "other": PromptEnsemble.named("screening").fingerprint()["sha256"],
    }
    # The result is the same as with `modality="CT"`, and differs from the result with general prompts.
    maps = {}
    for modality in ("CT", "any"):
        run_small(TINY, scans / "ct", tmp_path / modality, case_names="files", modality=modality, device="cpu")
        maps[modality] = (tmp_path / modality / "ct" / "anomaly.nii.gz").read_bytes()
    assert maps["CT"] == (tmp_path / "out" / "ct" / "anomaly.nii.gz").read_bytes()
    assert maps["CT"] != maps["any"]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run_small(TINY, scans, tmp_path / "out", case_names="files", resume=True)
    assert re.search("3 cases .* 0 remain", caplog.text)
