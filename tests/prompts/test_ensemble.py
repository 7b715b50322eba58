"""Composition of sentences, own files, and what is refused."""

from __future__ import annotations

import copy
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from monai_zsad.errors import ConfigurationError
from monai_zsad.prompts import PromptEnsemble, set_names

CONTENT: dict[str, Any] = {
    "name": "left kidney",
    "normal": ["normal {}"],
    "abnormal": ["abnormal {}", "{} with a stone"],
    "templates": ["a {image} of a {}", "a {}"],
    "images": ["CT scan", "ultrasound image"],
}


def write(folder: Path, content: object) -> Path:
    path = folder / "my.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_states_change_fastest_then_templates_then_images(tmp_path: Path):
    ensemble = PromptEnsemble.from_yaml(write(tmp_path, CONTENT))
    assert ensemble.abnormal == (
        "a CT scan of an abnormal left kidney",
        "a CT scan of a left kidney with a stone",
        "an abnormal left kidney",
        "a left kidney with a stone",
        "an ultrasound image of an abnormal left kidney",
        "an ultrasound image of a left kidney with a stone",
    )
    assert ensemble.sentences == ensemble.normal + ensemble.abnormal
    assert ensemble == PromptEnsemble(**CONTENT)
    assert hash(ensemble) == hash(PromptEnsemble(**CONTENT))
    assert ensemble != PromptEnsemble(**{**CONTENT, "name": "right kidney"})
    assert "abnormal: 2 states x 3 templates = 6 sentences" in ensemble.describe()
    assert repr(PromptEnsemble(**CONTENT)) == "PromptEnsemble('prompts', 3 normal, 6 abnormal)"


def test_plain_sentences_are_left_as_they_are():
    ensemble = PromptEnsemble(["a  MRI of Brain"], ["a abnormal MRI"])
    assert ensemble.sentences == ("a  MRI of Brain", "a abnormal MRI")


def test_arguments_are_not_changed():
    content = copy.deepcopy(CONTENT)
    PromptEnsemble(**content)
    assert content == CONTENT


def test_copies_are_equal():
    ensemble = PromptEnsemble.named("medical", anatomy="brain")
    assert pickle.loads(pickle.dumps(ensemble)) == ensemble  # noqa: S301 (written here)
    assert copy.deepcopy(ensemble) == ensemble


@pytest.mark.parametrize(
    "config",
    [
        {"_target_": "monai_zsad.prompts.PromptEnsemble", **CONTENT},
        {
            "_target_": "monai_zsad.prompts.PromptEnsemble.named",
            "set_name": "anoclip_medical",
            "anatomy": "brain",
            "modality": "flair",
        },
    ],
)
def test_a_bundle_may_hold_them(config: dict[str, Any]):
    parser = ConfigParser({"prompts": config})
    arguments = {key: value for key, value in config.items() if key != "_target_"}
    target = PromptEnsemble.named if "set_name" in config else PromptEnsemble
    assert parser.get_parsed_content("prompts") == target(**arguments)


def test_a_bundle_may_name_a_file(tmp_path: Path):
    path = write(tmp_path, CONTENT)
    config = {"_target_": "monai_zsad.prompts.PromptEnsemble.from_yaml", "path": str(path), "name": "spleen"}
    found = ConfigParser({"prompts": config}).get_parsed_content("prompts")
    assert found == PromptEnsemble(**{**CONTENT, "name": "spleen"})


def test_a_file_takes_the_place_of_a_name(tmp_path: Path):
    path = write(tmp_path, {"like": "medical", "abnormal": ["{} with a mass"], "normal": ["clear {}"]})
    words = {"anatomy": "lung", "modality": "ct"}
    assert PromptEnsemble.named(str(path), **words) == PromptEnsemble.from_yaml(path, **words)
    with pytest.raises(ConfigurationError, match=r"missing\.yml"):
        PromptEnsemble.named(str(tmp_path / "missing.yml"))


@pytest.mark.parametrize("name", set_names())
def test_yaml_round_trip(tmp_path: Path, name: str):
    ensemble = PromptEnsemble.named(name)
    again = PromptEnsemble.from_yaml(write(tmp_path, ensemble.to_yaml()))
    assert again == ensemble
    assert again.description == ensemble.description


TEXT = st.text("abeMRIX 8-:#'{", min_size=1, max_size=12).filter(lambda text: text.strip() and "{" not in text)


@given(
    normal=st.lists(TEXT, min_size=1, max_size=4),
    abnormal=st.lists(TEXT, min_size=1, max_size=4),
    templates=st.lists(TEXT.map("a {{}} {}".format), min_size=1, max_size=3),
    adapt=st.booleans(),
)
def test_any_lists(
    tmp_path_factory: pytest.TempPathFactory, normal: list[str], abnormal: list[str], templates: list[str], adapt: bool
):
    composed = [template.format(state.strip()) for state in normal + abnormal for template in templates]
    assume(len({" ".join(text.lower().replace("an ", "a ").split()) for text in composed}) == len(composed))
    ensemble = PromptEnsemble(normal, abnormal, templates, adapt_articles=adapt)
    assert len(ensemble.normal) == len(normal) * len(templates)
    assert len(ensemble.abnormal) == len(abnormal) * len(templates)
    assert all("{" not in sentence for sentence in ensemble.sentences)
    for number, sentence in enumerate(ensemble.normal):
        assert normal[number % len(normal)].strip() in sentence
    path = write(tmp_path_factory.mktemp("yaml"), ensemble.to_yaml())
    assert PromptEnsemble.from_yaml(path) == ensemble


def without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in CONTENT.items() if key not in keys}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**CONTENT, "tempaltes": []}, "unknown key 'tempaltes'; did you mean templates"),
        (without("abnormal"), "abnormal is missing: give a list of phrases, or states"),
        ({**CONTENT, "normal": []}, "normal is an empty list"),
        ({**CONTENT, "normal": "normal {}"}, "normal is 'normal {}' (str): give a list"),
        ("name: x\nnormal:\n- on {}\nabnormal:\n- {}\n", "abnormal[0] is a mapping (empty braces), not a text"),
        ({**CONTENT, "normal": [True]}, "normal[0] is True (bool)"),
        (
            {**CONTENT, "templates": ["a {}", "a {image}"]},
            "templates: 'a {image}' has no placeholder {}, but needs exactly one",
        ),
        ({**CONTENT, "templates": ["a {} {image} {}"]}, "templates: 'a {} {image} {}' has 2 placeholders {}"),
        (
            {**CONTENT, "templates": ["a {modality} of {}"]},
            "has an unknown placeholder {modality}: known here are {}, {anatomy}",
        ),
        (
            {**CONTENT, "normal": ["a kidney"]},
            "normal: 'a kidney' has no placeholder {}, but needs exactly one for the name",
        ),
        (without("name"), "normal: 'normal {}' has 1 placeholder {}, but needs none without a name: give name"),
        ({**CONTENT, "templates": ["a {}"]}, "images is given, but no template has a placeholder {image}"),
        ({**CONTENT, "name": "{"}, "name: '{' has a brace without its partner"),
        ({**CONTENT, "name": 3}, "name is 3 (int), not a text: put it in quotes"),
        ({**CONTENT, "images": ["CT {}"]}, "images: 'CT {}' has 1 placeholder {}, but needs none"),
        ({**CONTENT, "abnormal": ["Normal  {}"]}, "normal and abnormal: the sentence"),
        (
            {**CONTENT, "abnormal": ["x {}", "X {}"]},
            "abnormal: the sentence 'a CT scan of an X left kidney' occurs twice",
        ),
        ({**CONTENT, "adapt_articles": "no"}, "adapt_articles is 'no' (str): give true or false"),
        ({**CONTENT, "states": ["hemorrage"]}, "state 'hemorrage' is unknown; did you mean hemorrhage"),
        ({"like": "medcal"}, "the prompt set 'medcal' is unknown; did you mean medical"),
        ({"like": "medical", "states": ["findings"]}, "no finding is known for anatomy 'any' and modality 'any'"),
        ({"like": "crane", "name": "scan"}, "has no placeholder {}, but needs exactly one for the name 'scan'"),
    ],
)
def test_errors_name_the_file_and_the_key(tmp_path: Path, content: object, message: str):
    path = write(tmp_path, content)
    with pytest.raises(ConfigurationError) as caught:
        PromptEnsemble.from_yaml(path)
    assert message in str(caught.value)
    if not isinstance(content, dict) or not str(content.get("like", "")).startswith("medc"):
        assert str(caught.value).startswith(f"{path}: ")


def test_lists_are_checked_like_files():
    with pytest.raises(ConfigurationError, match=r"prompts: normal\[1\] is 2 \(int\)"):
        PromptEnsemble(["a", 2], ["b"])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match=r"images is missing: the template 'a \{image\} \{\}'"):
        PromptEnsemble(["a"], ["b"], ["a {image} {}"])
    with pytest.raises(ConfigurationError, match=r"unknown placeholder \{anatomy\}"):
        PromptEnsemble(["a"], ["b"], ["a {anatomy} {}"])


def test_a_file_builds_on_a_set(tmp_path: Path):
    path = write(tmp_path, {"like": "medical", "templates": ["a {image} of the {}"], "images": ["SPECT scan"]})
    ensemble = PromptEnsemble.from_yaml(path, anatomy="heart")
    assert ensemble.abnormal[0] == "a SPECT scan of the abnormal heart"
    assert "a SPECT scan of the heart with a mass" in ensemble.abnormal
    with pytest.raises(ConfigurationError, match=r"modality 'ct': .*my\.yaml has its own images"):
        PromptEnsemble.from_yaml(path, modality="ct", states=["organ"])
    # The findings still follow the modality.
    assert "{} with a hypoechoic lesion" in PromptEnsemble.from_yaml(path, modality="us").abnormal_states


def test_own_phrases_replace_inherited_states(tmp_path: Path):
    own = {"like": "medical", "normal": ["clear {}"], "abnormal": ["opaque {}"]}
    ensemble = PromptEnsemble.from_yaml(write(tmp_path, own), anatomy="lung", modality="ct")
    assert ensemble.normal_states == ("clear {}",)
    both = PromptEnsemble.from_yaml(write(tmp_path, {**own, "states": ["nodule"]}), anatomy="lung", modality="ct")
    assert both.abnormal_states == ("{} with a nodule", "opaque {}")


def test_words_of_the_library_in_an_own_file(tmp_path: Path):
    own = {"normal": ["a normal {examination}"], "abnormal": ["a {examination} of a sick {anatomy}"]}
    path = write(tmp_path, own)
    ensemble = PromptEnsemble.from_yaml(path, anatomy="abdomen", modality="mri")
    assert ensemble.sentences == ("a normal abdominal MRI scan", "an abdominal MRI scan of a sick abdomen")


def test_states_are_chosen():
    chosen = PromptEnsemble.named("medical", anatomy="brain", states=["hemorrhage", "edema"])
    assert chosen.abnormal_states == ("{} with hemorrhage", "{} with edema")
    twice = PromptEnsemble.named("medical", anatomy="brain", modality="ct", states=["edema", "findings"])
    assert twice.abnormal_states.count("{} with edema") == 1
    with pytest.raises(ConfigurationError, match=r"states is 'edema' \(str\): give a list"):
        PromptEnsemble.named("medical", states="edema")
    named = PromptEnsemble.named("medical", modality="ct", name="adrenal gland")
    assert named.abnormal[0] == "a CT scan of an abnormal adrenal gland"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("crane", {"name": "scan"}, "name='scan': the sentences of crane have no place for a name"),
        ("crane", {"anatomy": "brain"}, "anatomy 'brain': crane has no place for it"),
        ("aaclip", {"modality": "ct"}, "modality 'ct': aaclip has no place for it; put the word into name"),
        ("anoclip_object", {"modality": "ct"}, "modality 'ct': anoclip_object has its own images"),
        ("medical", {"anatomy": "hart"}, "anatomy 'hart' is unknown; did you mean heart"),
        ("medical", {"name": " "}, "name is empty"),
        ("anoclip", {}, "the prompt set 'anoclip' is unknown; did you mean anoclip_"),
    ],
)
def test_what_has_no_place_is_refused(name: str, arguments: dict[str, Any], message: str):
    with pytest.raises(ConfigurationError) as caught:
        PromptEnsemble.named(name, **arguments)
    assert message in str(caught.value)


def test_an_odd_pair_is_reported(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "monai_zsad"):
        PromptEnsemble.named("medical", anatomy="retina", modality="fundus")
        assert not caplog.records
        PromptEnsemble.named("medical", anatomy="liver", modality="fundus")
    assert "modality 'fundus' is meant for retina, not for 'liver'" in caplog.text


def test_long_sentences_are_reported_and_kept():
    ensemble = PromptEnsemble(["short"], ["a b c d", "b c d e", "c d e f", "d e f g", "one"])
    with pytest.raises(ConfigurationError) as caught:
        ensemble.check_lengths(lambda text: len(text.split()) + 2, 5)
    message = str(caught.value)
    assert message.startswith("prompts: 4 of 6 sentences are longer than 5 tokens: 'a b c d' (6 tokens);")
    assert "and 1 more" in message
    assert ensemble.abnormal[0] == "a b c d"
    ensemble.check_lengths(lambda text: len(text.split()) + 2, 6)


def test_signs_follow_the_modality_and_without_one_words_are_general():
    flair = PromptEnsemble.named("screening", anatomy="brain", modality="flair")
    assert flair.abnormal_states == ("{} with a hyperintense lesion",)
    head = PromptEnsemble.named("screening", modality="head_ct").abnormal
    assert {"hemorrhage", "hypodense lesion"} == {
        word for text in head for word in ("hemorrhage", "hypodense lesion") if word in text
    }
    general = PromptEnsemble.named("screening", anatomy="brain")
    assert general == PromptEnsemble.named("medical", anatomy="brain", states=["organ"])
    assert PromptEnsemble.named("screening", modality="ultrasound").normal[
        0
    ] == "a ultrasound image of a normal organ".replace("a ultra", "an ultra")
