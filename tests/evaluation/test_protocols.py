"""Protocols: what `auto` chooses, and that it can be had."""

from __future__ import annotations

import pytest

from monai_zsad.backbones.weights import get_entry
from monai_zsad.data.benchmarks import known_benchmarks
from monai_zsad.errors import ConfigurationError
from monai_zsad.evaluation.protocols import choose_protocol, class_prompts, known_protocols
from tests.bundles.runs import BUNDLES, parser_of


@pytest.mark.parametrize("method", [bundle.name for bundle in BUNDLES])
def test_every_bundle_has_one_for_every_set(method: str) -> None:
    for name, benchmark in known_benchmarks().items():
        chosen = choose_protocol("auto", method, name)
        assert chosen.method == method
        assert ("volumes" in chosen.domains) == (name == "volumes")
        assert choose_protocol(chosen.name, method, name) == chosen
        if chosen.blur and name != "volumes":
            assert chosen.blur == benchmark.domain


def test_protocol_of_cranes_paper() -> None:
    for method in ("crane", "crane_plus"):
        assert choose_protocol("auto", method, "mvtec-ad").released == {"prompts": f"{method}:visa_epoch5"}
    found = {name: choose_protocol("auto", "crane_plus", name) for name in ("visa", "dagm", "headct", "tn3k")}
    assert [one.average for one in found.values()] == ["logits", "probabilities", "probabilities", "probabilities"]
    epochs = [one.released["prompts"][-1] for one in found.values()]
    assert epochs == ["5", "5", "1", "1"]
    for name in ("visa", "headct", "dagm"):
        chosen = choose_protocol("auto", "crane", name)
        assert (chosen.average, chosen.sigma, chosen.image_size) == ("probabilities", 4, 518)
        assert chosen.released == {"prompts": "crane:mvtec_epoch5"}


def test_protocol_of_aaclip() -> None:
    brain, colon, tiles = (choose_protocol("auto", "aaclip", name) for name in ("bmad-brain", "kvasir", "mvtec-ad"))
    assert {one.scaling for one in (brain, colon, tiles)} == {"class"}
    assert [one.image_score for one in (brain, colon, tiles)] == ["map", "map", "mean"]
    assert brain.words == "scan"
    assert colon.words == "colon endoscopy image"
    assert choose_protocol("auto", "aaclip", "volumes").scaling == "none"


@pytest.mark.parametrize("name", sorted(known_protocols()))
def test_values_are_those_of_the_bundle(name: str) -> None:
    protocol = known_protocols()[name]
    bundle = next(folder for folder in BUNDLES if folder.name == protocol.method)
    config = parser_of(bundle)
    assert protocol.image_size == config["image_size"]
    assert protocol.released.keys() <= config["released_weights"].keys()
    for source in protocol.released.values():
        assert get_entry(source).kind == "prompts"
    assert (protocol.average is None) == ("average" not in config)
    assert (protocol.views is None) == ("views" not in config)
    assert (protocol.blur is None) == ("domain" not in config)


@pytest.mark.parametrize("name", [name for name, one in known_protocols().items() if one.prompt_set])
def test_words_of_every_class(name: str) -> None:
    protocol = known_protocols()[name]
    for benchmark in known_benchmarks().values():
        if choose_protocol("auto", protocol.method, benchmark.name) != protocol:
            continue
        records = [{"class_name": key, "prompt_name": benchmark.prompt_name(key)} for key in benchmark.classes]
        prompts = class_prompts(protocol, records)
        assert set(prompts) == set(benchmark.classes)
        if protocol.prompt_key == "name" and not protocol.words:
            assert len({one.normal for one in prompts.values()}) == len(benchmark.classes)


def test_words_of_ones_own() -> None:
    record = {"class_name": "metal_nut", "prompt_name": "metal nut"}
    protocol = known_protocols()["anoclip-mvtec"]
    assert "hexagonal nut" in class_prompts(protocol, [record], {"metal_nut": "hexagonal nut"})["metal_nut"].normal[0]
    carpet = {"class_name": "carpet", "prompt_name": "carpet"}
    assert "textural" in " ".join(class_prompts(protocol, [carpet])["carpet"].normal)
    with pytest.raises(ConfigurationError, match="class_words name nut, but the classes are metal_nut"):
        class_prompts(protocol, [record], {"nut": "x"})
    with pytest.raises(ConfigurationError, match="prompts of crane are learned"):
        class_prompts(known_protocols()["crane"], [record], {"metal_nut": "x"})
    with pytest.raises(ConfigurationError, match="anatomy"):
        class_prompts(known_protocols()["anoclip-medical"], [record], {"metal_nut": "no organ"})


def test_refusals() -> None:
    with pytest.raises(ConfigurationError, match="did you mean crane-mvtec"):
        choose_protocol("crane-mvtek", "crane", "mvtec-ad")
    with pytest.raises(ConfigurationError, match="'crane-volumes' is none of crane for HeadCT"):
        choose_protocol("crane-volumes", "crane", "headct")
    with pytest.raises(ConfigurationError, match="has no protocol: there are those of crane"):
        choose_protocol("auto", "other", "headct")
    with pytest.raises(ConfigurationError, match="known data set"):
        choose_protocol("auto", "crane", "nothing")
