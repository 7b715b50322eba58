"""Several methods on one scan: numbers of the methods by themselves, files, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
import yaml
from matplotlib.image import imread
from monai.bundle import ConfigParser
from typer.testing import CliRunner

from monai_zsad.cli.compare import _folders
from monai_zsad.cli.main import app, main
from monai_zsad.errors import ConfigurationError, InputError, OutputError, WeightsError
from monai_zsad.evaluation.comparison.bundles import ComparedBundles, one_scan
from monai_zsad.evaluation.comparison.methods import Comparison, compare_methods
from monai_zsad.inferers import VolumeSliceInferer
from monai_zsad.networks import Crane
from monai_zsad.transforms import VolumeScored
from monai_zsad.writers import SEEDED_WARNING, UNFAMILIAR_WARNING
from tests.bundles.runs import ROOT, config_file
from tests.integration.scans import body, turned
from tests.networks.small import small_network
from tests.networks.zoo import ARCHITECTURE, IMAGE_SIZE, anomalyclip

SETTINGS: dict[str, Any] = {
    "architecture": ARCHITECTURE,
    "image_size": IMAGE_SIZE,
    "batch_size": 3,
    "progress": False,
    **{f"weights#{part}": "seed:0" for part in ("clip", "prompts", "image_adapter", "text_adapter")},
}
BUNDLES = {name: ROOT / name for name in ("crane", "anomalyclip", "aaclip", "anoclip")}
BOUND = 2e-5


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("scans") / "anna.nii.gz"
    nibabel.save(turned(body(), "ILP"), file)
    return file


@pytest.fixture(scope="module")
def bundles() -> ComparedBundles:
    opened = ComparedBundles(BUNDLES, SETTINGS)
    opened.load()
    return opened


@pytest.fixture(scope="module")
def comparison(bundles: ComparedBundles, scan: Path) -> Comparison:
    return bundles.run(scan)


def test_who_shared_and_what_it_was(comparison: Comparison) -> None:
    assert comparison.case == "anna"
    assert comparison.groups == (("crane", "anomalyclip"), ("aaclip",), ("anoclip",))
    assert comparison.seeded == list(BUNDLES)
    assert comparison.models["anomalyclip"]["method"] == "AnomalyCLIP"
    assert comparison.models["anoclip"]["weights"]["clip"]["name"] == "seed:0"


@pytest.mark.parametrize("name", BUNDLES)
def test_each_method_gives_what_its_bundle_gives(comparison: Comparison, scan: Path, name: str) -> None:
    parser = ConfigParser()
    parser.read_config(config_file(BUNDLES[name]))
    parts = parser["weights"]
    parser.update({key: value for key, value in SETTINGS.items() if "#" not in key})
    parser["dataset_dir"] = str(scan)
    network = parser.get_parsed_content("network_def")
    network.load_weights(**dict.fromkeys(parts, "seed:0"))
    data = parser.get_parsed_content("dataset")[0]
    with torch.no_grad():
        pred = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
    torch.testing.assert_close(comparison.maps[name].as_tensor(), pred[:1].as_tensor(), atol=BOUND, rtol=0)
    expected = VolumeScored("pred", "image")({"pred": pred, "image": data["image"]})
    assert comparison.volume_scores[name] == pytest.approx(expected["volume_score"], abs=BOUND)
    for found, wanted in zip(comparison.slice_scores[name], expected["slice_scores"], strict=True):
        assert {**found, "score": 0} == {**wanted, "score": 0}
        assert found["score"] == pytest.approx(wanted["score"], abs=BOUND)


def test_equal_vision_towers_are_kept_once(bundles: ComparedBundles) -> None:
    towers = {name: network.clip.visual for name, network in bundles.networks.items()}
    assert towers["crane"] is towers["anomalyclip"]
    assert towers["anoclip"] is not towers["crane"]
    # The adapters of AA-CLIP stand beside a CLIP that computes another activation.
    assert towers["aaclip"] is not towers["crane"]


def test_some_slices_alone(bundles: ComparedBundles, comparison: Comparison, scan: Path) -> None:
    numbers = comparison.numbers[4:7:2]
    some = bundles.run(scan, numbers)
    assert some.chosen() == numbers
    assert [line.split()[0] for line in some.table().splitlines()[1:]] == [str(number) for number in numbers]
    assert set(some.volume_scores.values()) == {None}
    for name in BUNDLES:
        for index, (own, entry) in enumerate(zip(some.slice_scores[name], comparison.slice_scores[name], strict=True)):
            if entry["slice"] in numbers:
                assert own["score"] == pytest.approx(entry["score"], abs=BOUND)
                torch.testing.assert_close(
                    some.maps[name][..., index], comparison.maps[name][..., index], atol=BOUND, rtol=0
                )
            else:
                assert not own["scored"]
    with pytest.raises(ConfigurationError, match="slice 400 is not in the scan"):
        bundles.run(scan, [400])


def test_slices_that_depend_on_their_neighbours_are_run_with_them(comparison: Comparison) -> None:
    network = {"anomalyclip": anomalyclip()}
    inferer = VolumeSliceInferer(smooth_slices_mm=3.0)
    whole = compare_methods(network, comparison.image, inferer=inferer)
    some = compare_methods(network, comparison.image, inferer=inferer, slices=comparison.numbers[5:6])
    assert torch.equal(whole.maps["anomalyclip"], some.maps["anomalyclip"])


def test_slices_that_are_asked_for_are_run_themselves(comparison: Comparison) -> None:
    network = {"anomalyclip": anomalyclip()}
    numbers = comparison.numbers[4:7]
    thinned = VolumeSliceInferer(slice_spacing_mm=1000.0)
    some, whole = (
        compare_methods(network, comparison.image, inferer=inferer, slices=numbers)
        for inferer in (thinned, VolumeSliceInferer())
    )
    assert torch.equal(whole.maps["anomalyclip"], some.maps["anomalyclip"])
    assert thinned.slice_spacing_mm == 1000.0


def test_files(comparison: Comparison, tmp_path: Path) -> None:
    files = comparison.save(tmp_path, 2)
    numbers = comparison.chosen(2)
    assert [file.name for file in files] == [
        *(f"comparison_{number:03d}.png" for number in numbers),
        "comparison.json",
    ]
    assert imread(files[0]).shape[1] > 4 * imread(files[0]).shape[0] * 0.5
    report = json.loads(files[-1].read_text(encoding="utf-8"))
    assert list(report["methods"]) == list(BUNDLES)
    assert report["methods"]["crane"]["model"]["weights"]["prompts"]["seed"] == 0
    assert len(report["methods"]["crane"]["slice_scores"]) == len(comparison.numbers)
    assert report["pictures"] == {str(n): file.name for n, file in zip(numbers, files, strict=False)}
    assert report["warnings"] == [f"{name}: {SEEDED_WARNING}" for name in BUNDLES]

    before = sorted(file.name for file in (tmp_path / "anna").iterdir())
    with pytest.raises(OutputError, match="already holds a comparison of anna: add --overwrite"):
        comparison.save(tmp_path, 1)
    assert sorted(file.name for file in (tmp_path / "anna").iterdir()) == before
    (tmp_path / "anna" / "scores.json").write_text("{}")
    kept = [file.name for file in comparison.save(tmp_path, 1, overwrite=True)]
    assert sorted(file.name for file in (tmp_path / "anna").iterdir()) == sorted([*kept, "scores.json"])


def test_table(comparison: Comparison) -> None:
    lines = comparison.table(comparison.numbers[3:5]).splitlines()
    assert lines[0].split()[-4:] == list(BUNDLES)
    assert [line.split()[0] for line in lines[1:]] == [*map(str, comparison.numbers[3:5]), "volume"]
    assert lines[1].split()[-4] == f"{comparison.slice_scores['crane'][3]['score']:.3f}"


def test_untrained_networks_are_no_result(comparison: Comparison) -> None:
    with pytest.raises(InputError, match="weights were not"):
        compare_methods({"crane": Crane(ARCHITECTURE, IMAGE_SIZE)}, comparison.image)


def test_methods_that_were_trained_on_other_scans_say_so() -> None:
    telling, neutral = small_network(), small_network()
    for network in (telling, neutral):
        network.load_weights(model="seed:0")
    telling.known_basis += 100
    inferer = VolumeSliceInferer(context_mm=1.0)
    found = compare_methods({"a": telling, "b": neutral}, torch.rand(1, 40, 40, 2), inferer=inferer)
    assert found.unfamiliar == ("a",)
    assert f"a: {UNFAMILIAR_WARNING}" in found.report()["warnings"]
    assert found.maps["a"].shape == (1, 40, 40, 2)
    torch.testing.assert_close(found.maps["a"], found.maps["b"])


def test_one_scan_only(scan: Path, tmp_path: Path) -> None:
    assert one_scan(scan)["case"] == "anna"
    for name in ("a", "b"):
        (tmp_path / f"{name}.nii").write_bytes(b"")
    with pytest.raises(InputError, match="holds 2 scans"):
        one_scan(tmp_path)


def test_one_scan_that_cannot_be_read_is_said_in_a_sentence(bundles: ComparedBundles, tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4), dtype=np.int16), np.eye(4)), tmp_path / "flat.nii")
    with pytest.raises(InputError, match=r"flat\.nii"):
        bundles.run(tmp_path / "flat.nii")


@pytest.mark.parametrize(
    ("settings", "own", "message"),
    [
        ({"imagesize": 3}, {}, "imagesize is no option of crane, aaclip .* did you mean image_size"),
        ({"output_dtype": "float64"}, {}, "output_dtype is no option"),
        ({"weights#adapter": "x"}, {}, "weights#adapter is no option .* weights#image_adapter"),
        ({}, {"crane": {"domain": "medical"}}, "domain is no option of crane that"),
        ({}, {"dino": {"window": "brain"}}, "'dino' is none of the compared bundles: crane, aaclip"),
        ({}, {"crane": {"window": "brain"}}, r"run the scan differently \(window\)"),
        ({"runtime": "openvino"}, {}, "features are shared in PyTorch only"),
        ({"precision": "int8"}, {}, "precision='int8'"),
        ({"window": "brian"}, {}, "preprocessing of crane: window='brian' .* did you mean brain"),
    ],
)
def test_refused_before_anything_is_loaded(settings: Any, own: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ComparedBundles({name: BUNDLES[name] for name in ("crane", "aaclip")}, settings, own)


def test_lacking_weights_are_said_before_anything_is_built(tmp_path: Path) -> None:
    opened = ComparedBundles({"crane": BUNDLES["crane"], "mine": BUNDLES["anomalyclip"]}, {"weights#clip": "seed:0"})
    with pytest.raises(WeightsError, match=r"prompts of mine: give your own by --weights mine:prompts=FILE"):
        opened.load()
    assert not opened.networks
    with pytest.raises(ConfigurationError, match=r"call load\(\) first"):
        opened.run(tmp_path)


def test_bundles_may_differ_in_what_does_not_matter() -> None:
    own: dict[str, dict[str, Any]] = {"crane": {"batch_size": 2}, "aaclip": {"domain": "industrial", "image_size": 28}}
    assert (
        ComparedBundles({"crane": BUNDLES["crane"], "aaclip": BUNDLES["aaclip"]}, SETTINGS, own).inferer.batch_size == 2
    )


# ---- the command ---------------------------------------------------------------------------------------------------


def arguments(scan: Path, output: Path, *more: str) -> list[str]:
    settings = [f"architecture={yaml.safe_dump(ARCHITECTURE, default_flow_style=True, width=1000).strip()}"]
    settings += [f"image_size={IMAGE_SIZE}", "progress=false"]
    options = [word for setting in settings for word in ("--set", setting)]
    options += ["--weights", "clip=seed:0", "--weights", "prompts=seed:0"]
    return ["compare", str(scan), "-o", str(output), "--bundle", str(BUNDLES["crane"]), *options, *more]


def test_command(scan: Path, tmp_path: Path) -> None:
    more = ["--bundle", f"vv={BUNDLES['anomalyclip']}", "--weights", "vv:prompts=seed:5", "--slices", "2"]
    result = CliRunner().invoke(app, arguments(scan, tmp_path, *more))
    assert result.exit_code == 0, result.output
    assert "vv: prompts weights: seed:5" in result.stdout
    assert "crane, vv: one pass through CLIP" in result.stdout
    files = [Path(line) for line in result.stdout.splitlines() if line.startswith(str(tmp_path))]
    assert [file.suffix for file in files] == [".png", ".png", ".json"]
    assert all(file.is_file() for file in files)
    assert "volume" in result.stdout
    assert "*** CRANE AND VV:" in result.stderr


def exit_code(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    return caught.value.code


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--slice", "400"], 1, "slice 400 is not in the scan"),
        (["--bundle", "nowhere"], 1, "bundle nowhere: "),
        (["--bundle", str(BUNDLES["crane"])], 1, "give LABEL="),
        (["--bundle", f"a:b={BUNDLES['crane']}"], 1, "give LABEL=BUNDLE"),
        (["--set", "windo=brain"], 1, "did you mean window"),
        (["--set", "window"], 1, "give a key and a value"),
        (["--set", "x:window=brain"], 1, "'x' is not one of the bundles; known are crane"),
        (["--set", "window=[1"], 1, "YAML"),
        (["--weights", "clip"], 1, "give a part and a source"),
        (["--slices", "0"], 2, "--slices"),
        (["--limits", "1", "0"], 2, "--limits"),
    ],
)
def test_command_refuses(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int, message: str
) -> None:
    assert exit_code(*arguments(scan, tmp_path, *more)) == code
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not list(tmp_path.rglob("*.png"))


def test_command_overwrites_nothing_unasked(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = tmp_path / "anna" / "comparison.json"
    old.parent.mkdir()
    old.write_text("{}")
    assert exit_code(*arguments(scan, tmp_path)) == 1
    assert "add --overwrite" in capsys.readouterr().err
    assert old.read_text() == "{}"


def test_command_takes_names_of_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = _folders(["crane", "mine=aaclip", f"other={BUNDLES['crane']}"])
    assert [(label, folder.name) for label, folder in found.items()] == [
        ("crane", "crane"),
        ("mine", "aaclip"),
        ("other", "crane"),
    ]
    assert all((folder / "configs" / "inference.yaml").is_file() for folder in found.values())
    with pytest.raises(ConfigurationError, match="did you mean crane"):
        _folders(["crain"])
