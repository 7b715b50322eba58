"""Concepts and their sentences."""

from __future__ import annotations

import numpy as np
import pytest

from monai_zsad.backbones.tokenizer import count_tokens
from monai_zsad.prompts import Concept, concepts
from monai_zsad.prompts.library import anatomies, modalities, states
from monai_zsad.synthesis import ATTRIBUTES

CONTEXT = 77


def test_every_attribute_of_a_lesion_can_be_asked_for() -> None:
    found = concepts()
    assert {attribute for concept in found.values() for attribute in concept.attributes} == set(ATTRIBUTES)
    assert [name for name, concept in found.items() if concept.generic] == ["lesion"]
    assert all(concept.key == name and concept.phrases for name, concept in found.items())
    named = [phrase for concept in found.values() for phrase in concept.phrases]
    assert len(named) == len(set(named)), "a phrase asks for one concept"


@pytest.mark.parametrize("name", list(concepts()))
def test_no_phrase_speaks_of_the_opposite(name: str) -> None:
    concept = concepts()[name]
    opposites = {"hyperintense": ("dark", "hypo"), "hypointense": ("bright", "hyper", "enhanc")}
    opposites |= {"small": ("large", "mass"), "large": ("small", "tiny")}
    for attribute in concept.attributes:
        for word in opposites.get(attribute, ()):
            assert not any(word in phrase for phrase in concept.phrases)


@pytest.mark.parametrize("name", list(concepts()))
def test_sentences(name: str) -> None:
    concept = concepts()[name]
    normal, abnormal = concept.sentences(40, np.random.default_rng(0))
    assert (normal, abnormal) == concept.sentences(40, np.random.default_rng(0))
    assert (normal, abnormal) != concept.sentences(40, np.random.default_rng(1))
    assert len(normal) == len(abnormal) == 40
    assert len(set(abnormal)) > 30
    nouns = [anatomy.noun for anatomy in anatomies().values()]
    images = [image for modality in modalities().values() for image in modality.images]
    with_phrase = 0
    for kind, sentences in (("without", normal), ("with", abnormal)):
        for sentence in sentences:
            assert not set("{}") & set(sentence)
            assert any(noun in sentence for noun in nouns)
            assert sum(map(sentence.startswith, ("a ", "an "))) == 1
            assert count_tokens(sentence) <= CONTEXT
            with_phrase += any(sentence.endswith(f" {kind} {phrase}") for phrase in concept.phrases)
            if kind == "with" and not concept.generic:
                assert any(sentence.endswith(f" with {phrase}") for phrase in concept.phrases)
    assert 40 * 0.5 < with_phrase <= 80
    assert any(image in sentence for image in images for sentence in normal)
    assert not set(normal) & set(abnormal)


def test_generic_words_ask_for_any_lesion_only() -> None:
    organ = states()["organ"]
    plain = Concept("any", ("lesion",), ("a lesion",), generic=True).sentences(60, np.random.default_rng(0))[1]
    assert 15 < sum(not sentence.endswith("with a lesion") for sentence in plain) < 45
    assert organ.abnormal
