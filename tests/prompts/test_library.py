"""The words that come with the package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from monai_zsad.errors import ConfigurationError
from monai_zsad.prompts import anatomies, modalities, states
from monai_zsad.prompts.library import find

ASKED_ANATOMIES = (
    "brain head chest lung liver abdomen kidney pancreas spine prostate breast retina colon skin thyroid bone"
)
ASKED_MODALITIES = "ct head_ct t1 t2 flair dwi t1_contrast xray mammography ultrasound oct fundus endoscopy dermoscopy"
ASKED_STATES = "hyperintense_lesion hemorrhage mass edema nodule polyp"


def test_the_library_has_what_was_asked_for():
    assert set(ASKED_ANATOMIES.split()) <= anatomies().keys()
    assert set(ASKED_MODALITIES.split()) <= modalities().keys()
    assert set(ASKED_STATES.split()) <= states().keys()
    assert next(iter(anatomies())) == next(iter(modalities())) == "any"


def test_no_name_means_two_things():
    tables: list[Mapping[str, Any]] = [anatomies(), modalities()]
    for words in tables:
        names = [re.sub(r"\W|_", "", name.lower()) for word in words.values() for name in (word.key, *word.aliases)]
        assert len(names) == len(set(names))
        for word in words.values():
            assert all(find(words, name, "x", "") is word for name in (word.key, word.key.upper(), *word.aliases))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("X-ray", "xray"),
        ("T1", "t1"),
        ("MR", "mri"),
        ("non-contrast head CT", "head_ct"),
        ("US", "ultrasound"),
        ("T1Gd", "t1_contrast"),
    ],
)
def test_modalities_by_their_usual_names(name: str, key: str):
    assert find(modalities(), name, "modality", "").key == key


def test_unknown_names_get_a_hint():
    with pytest.raises(ConfigurationError, match=r"anatomy 'panceras' is unknown; did you mean pancreas.*Do this"):
        find(anatomies(), "panceras", "anatomy", "Do this")
    with pytest.raises(ConfigurationError, match="anatomy 3: give a text"):
        find(anatomies(), 3, "anatomy", "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("modality", "anatomy", "expected"),
    [
        ("xray", "chest", "chest X-ray"),
        ("ct", "abdomen", "abdominal CT scan"),
        ("flair", "brain", "FLAIR brain MRI scan"),
        ("flair", "any", "FLAIR MRI scan"),
        ("head_ct", "brain", "non-contrast head CT scan"),
        ("oct", "retina", "retinal OCT scan"),
        ("endoscopy", "colon", "colon endoscopy image"),
        ("any", "any", "scan"),
    ],
)
def test_examinations(modality: str, anatomy: str, expected: str):
    assert modalities()[modality].examination(anatomies()[anatomy]) == expected


def test_findings_know_where_they_belong():
    def fits(state: str, anatomy: str, modality: str) -> bool:
        return states()[state].suits(anatomies()[anatomy], modalities()[modality])

    assert fits("hyperintense_lesion", "brain", "flair")
    assert not fits("hyperintense_lesion", "brain", "ct")
    assert not fits("hyperintense_lesion", "brain", "any")
    assert fits("polyp", "colon", "any")
    assert not fits("polyp", "any", "endoscopy")
    assert not modalities()["fundus"].suits(anatomies()["liver"])
    assert modalities()["fundus"].suits(anatomies()["any"])


def test_signs_are_states_that_fit_the_modality():
    assert modalities()["flair"].signs == ("hyperintense_lesion",)
    for modality in modalities().values():
        for sign in modality.signs:
            state = states()[sign]
            assert not state.modalities or modality.key in state.modalities


def test_the_data_cannot_be_changed_by_accident():
    with pytest.raises(TypeError):
        anatomies()["brain"] = anatomies()["liver"]  # type: ignore[index]
