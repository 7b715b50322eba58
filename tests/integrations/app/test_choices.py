"""What the page offers of bundles and of the prompt library."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from monai_zsad import bundles
from monai_zsad.errors import ConfigurationError, WeightsError
from monai_zsad.integrations.app.choices import (
    PROMPT_OPTIONS,
    BundleChoice,
    bundle_choices,
    checked_options,
    modality_keys,
    state_keys,
)
from monai_zsad.prompts import anatomies, modalities


def test_all_bundles_are_offered_and_those_that_can_run_come_first():
    choices = bundle_choices()
    assert sorted(choices) == bundles.names()
    runnable = [not choice.remedy for choice in choices.values()]
    assert runnable == sorted(runnable, reverse=True)
    assert runnable[0]


def test_only_what_a_bundle_takes_is_offered():
    assert all(BundleChoice.read("tiny_screening").takes(option) for option in PROMPT_OPTIONS)
    assert not any(BundleChoice.read("crane").takes(option) for option in PROMPT_OPTIONS)
    assert not BundleChoice.read("anoclip").takes("states")


def test_missing_weights_come_with_the_command_that_fetches_them():
    crane = BundleChoice.read("crane")
    assert "monai-zsad weights fetch ViT-L-14-336:openai crane:mvtec_epoch5" in crane.remedy
    with pytest.raises(WeightsError, match="weights fetch"):
        crane.check_weights()
    BundleChoice.read("tiny_screening").check_weights()


def test_unpublished_weights_are_said():
    choice = BundleChoice.read("anomalyclip")
    assert choice.unpublished == ("prompts",)
    assert "monai-zsad convert" in choice.remedy


def test_a_converted_file_is_enough(tmp_path: Path):
    own = bundles.copy("crane", tmp_path)
    assert BundleChoice.read(str(own)).missing
    (own / "models").mkdir()
    (own / "models" / "model.pt").touch()
    assert not BundleChoice.read(str(own)).remedy


def test_weights_on_this_machine_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MONAI_ZSAD_WEIGHTS", str(tmp_path))
    before = BundleChoice.read("anoclip").missing
    assert len(before) == 1
    from monai_zsad.backbones.weights import get_entry

    (tmp_path / get_entry(before[0]).filename).touch()
    assert not BundleChoice.read("anoclip").missing


def test_own_threshold_of_a_bundle(tmp_path: Path):
    own = tmp_path / "own"
    shutil.copytree(bundles.path("tiny_screening"), own)
    config = own / "configs" / "inference.yaml"
    config.write_text(config.read_text().replace("candidate_threshold: 0.5", "candidate_threshold: 0.25"))
    assert BundleChoice.read(str(own)).threshold == 0.25


@pytest.mark.parametrize("anatomy", [*anatomies(), None])
def test_modalities_suit_the_anatomy(anatomy: str | None):
    keys = modality_keys(anatomy)
    assert keys[0] == "any"
    part = anatomies()[anatomy or "any"]
    assert all(modalities()[key].suits(part) for key in keys)


def test_findings_suit_anatomy_and_modality():
    assert "enhancing_lesion" in state_keys(None, None)
    assert "enhancing_lesion" not in state_keys("brain", "flair")
    assert "hyperintense_lesion" in state_keys("brain", "flair")
    assert "organ" not in state_keys(None, None)


def test_values_of_the_bundle_and_empty_ones_are_left_out():
    tiny = BundleChoice.read("tiny_screening")
    values = {
        "anatomy": "",
        "modality": "flair",
        "prompt_set": "screening",
        "states": [],
        "candidate_threshold": 0.5,
    }
    assert checked_options(tiny, values) == {"modality": "flair"}
    assert checked_options(BundleChoice.read("crane"), values) == {}


@pytest.mark.parametrize(
    "values",
    [
        {"prompt_set": "/etc/prompts.yaml"},
        {"anatomy": "../brain"},
        {"modality": "$exit()"},
        {"states": ["hemorrhage", "nonsense"]},
        {"candidate_threshold": 2},
        {"candidate_threshold": "$exit()"},
    ],
)
def test_values_that_the_page_does_not_offer_are_refused(values: dict[str, object]):
    with pytest.raises(ConfigurationError):
        checked_options(BundleChoice.read("tiny_screening"), values)
