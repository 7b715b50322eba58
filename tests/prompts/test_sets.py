"""Named sets: the releases to the letter, and the medical ones over the whole library."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from monai_zsad.backbones.tokenizer import CONTEXT_LENGTH, count_tokens
from monai_zsad.prompts import PromptEnsemble, anatomies, learned_prompt_texts, modalities, set_names
from monai_zsad.prompts.wording import indefinite_article

MEDICAL = ("medical", "anoclip_medical", "aaclip_examination")


@pytest.mark.parametrize("kind", ["object", "texture"])
def test_anoclip_is_the_release(shared: Path, kind: str):
    golden = json.loads((shared / "golden" / "anoclip_templates.json").read_text())
    ensemble = PromptEnsemble.named(f"anoclip_{kind}", name="brain")
    for word, sentences in (("normal", ensemble.normal), ("abnormal", ensemble.abnormal)):
        # The order matters to the release's test-time adaptation: its golden values hold for this one.
        expected = [text.format(state.format("brain")) for text in golden[kind] for state in golden[word]]
        assert list(sentences) == expected
    assert len(ensemble.sentences) == 924
    assert list(PromptEnsemble.named(f"anoclip_{kind}").normal_states) == golden["normal"]


@pytest.mark.parametrize("name", ["scan", "colon endoscopy image", "ear"])
def test_aaclip_is_the_release(name: str):
    ensemble = PromptEnsemble.named("aaclip", name=name)
    normal, abnormal = (
        ("{}", "a {}", "the {}"),
        "a damaged {}|a broken {}|a {} with flaw|a {} with defect|a {} with damage",
    )
    for sentences, states in ((ensemble.normal, normal), (ensemble.abnormal, abnormal.split("|"))):
        filled = [state.format(name) for state in states]
        assert sentences == tuple(text.format(state) for text in ("{}.", "a photo of {}.") for state in filled)


def test_aaclip_names():
    assert PromptEnsemble.named("aaclip") == PromptEnsemble.named("aaclip_medical", name="scan")
    assert PromptEnsemble.named("aaclip_industrial").normal[0] == "object."


@pytest.mark.parametrize("name", ["crane", "anomalyclip"])
def test_learned_texts(name: str):
    ensemble = PromptEnsemble.named(name)
    assert ensemble.sentences == learned_prompt_texts()
    assert ensemble.sentences == ("X " * 12 + "object.", "X " * 12 + "damaged object.")


@pytest.mark.parametrize("name", set_names())
def test_every_set_has_words_and_a_description(name: str):
    ensemble = PromptEnsemble.named(name)
    assert ensemble.description.isascii()
    assert "\n" not in ensemble.description
    ensemble.check_lengths(count_tokens, CONTEXT_LENGTH)


def plain(sentence: str) -> str:
    return " ".join(sentence.lower().split())


@pytest.mark.parametrize("name", MEDICAL)
@pytest.mark.parametrize("modality", [None, *modalities()])
def test_every_anatomy_and_modality_yields_good_sentences(name: str, modality: str | None):
    lengths: dict[str, int] = {}
    for anatomy in (None, *anatomies()):
        ensemble = PromptEnsemble.named(name, anatomy=anatomy, modality=modality)
        assert len({plain(sentence) for sentence in ensemble.sentences}) == len(ensemble.sentences)
        assert len(ensemble.normal) >= 15
        assert len(ensemble.abnormal) >= 15
        for sentence in ensemble.sentences:
            assert re.fullmatch(r"[A-Za-z0-9-]+( [A-Za-z0-9-]+)*\.?", sentence)
            for article, following in re.findall(r"\b(an?) (\S+)", sentence):
                assert article == indefinite_article(following), sentence
            assert not re.search(r"\b(\w+) \1\b", sentence), sentence
        shortest = min(ensemble.sentences, key=len)
        longest = max(ensemble.sentences, key=len)
        lengths |= {sentence: count_tokens(sentence) for sentence in (shortest, longest)}
    assert max(lengths.values()) <= 40


@pytest.mark.parametrize("name", MEDICAL)
def test_no_sentence_is_both_normal_and_abnormal_in_words(name: str):
    ensemble = PromptEnsemble.named(name, anatomy="brain", modality="flair")
    negated = re.compile(r"\b(without|no|normal|normal-appearing|healthy|unremarkable)\b")
    assert all(negated.search(sentence) for sentence in ensemble.normal)
    for sentence in ensemble.abnormal:
        assert not re.search(r"\b(without|healthy|unremarkable)\b|(?<!ab)normal\b", sentence)


READ = {
    ("medical", "brain", "FLAIR"): [
        "a FLAIR image of a normal brain",
        "a FLAIR image of a brain with a hyperintense lesion",
    ],
    ("medical", "lung", "CT"): ["a CT scan of a healthy lung", "a CT scan showing a lung with a nodule"],
    ("medical", "retina", "OCT"): ["an OCT scan of a normal retina", "an OCT scan of an abnormal retina"],
    ("medical", "skin", "dermoscopy"): [
        "a dermoscopy image of a normal area of skin",
        "a dermoscopy image of an area of skin with a melanoma",
    ],
    ("aaclip_examination", "chest", "X-ray"): [
        "a normal chest X-ray.",
        "a chest X-ray with a pleural effusion.",
    ],
    ("aaclip_examination", "brain", "non-contrast head CT"): [
        "a normal non-contrast head CT scan.",
        "a non-contrast head CT scan with hemorrhage.",
    ],
    ("aaclip_examination", "colon", "endoscopy"): [
        "a normal colon endoscopy image.",
        "a colon endoscopy image with a polyp.",
    ],
    ("anoclip_medical", "liver", "MR"): [
        "a noisy MRI scan of the normal liver",
        "an MR image of an abnormal liver",
    ],
    ("anoclip_medical", None, None): [
        "a medical image of a normal organ",
        "a radiology image of the organ with a lesion",
    ],
}


@pytest.mark.parametrize(("name", "anatomy", "modality"), READ)
def test_sentences_read_like_a_report(name: str, anatomy: str | None, modality: str | None):
    normal, abnormal = READ[name, anatomy, modality]
    ensemble = PromptEnsemble.named(name, anatomy=anatomy, modality=modality)
    assert normal in ensemble.normal
    assert abnormal in ensemble.abnormal


def test_anoclip_medical_has_the_size_of_the_release():
    ensemble = PromptEnsemble.named("anoclip_medical", anatomy="brain", modality="flair")
    assert (len(ensemble.normal), len(ensemble.abnormal)) == (462, 462)
    assert (len(ensemble.templates), len(ensemble.images)) == (22, 3)


@pytest.mark.parametrize("name", ["aaclip", "anoclip_medical", "screening"])
def test_the_readme_counts_the_sentences_of_the_bundles_defaults(name: str):
    root = Path(__file__).resolve().parents[2]
    defaults = {
        line.split("#")[0].split(":")[1].strip()
        for file in root.glob("bundles/*/configs/inference.yaml")
        for line in file.read_text().splitlines()
        if line.startswith("prompt_set:")
    }
    assert name in defaults
    count = len(PromptEnsemble.named(name).sentences)
    assert f"| {count} sentences (`{name}`) |" in (root / "README.md").read_text()
