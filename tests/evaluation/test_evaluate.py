"""Bundles evaluated on miniature sets: kept, resumed, refused, the same in one process or two."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from monai_zsad.data import LoadPicture, find_user_error
from monai_zsad.errors import ConfigurationError, InputError, OutputError, ZsadError
from monai_zsad.evaluation.cases import LoadTruth, benchmark_cases
from monai_zsad.evaluation.predictions import load_prediction, prediction_file
from monai_zsad.evaluation.scoring import TABLE_FILES, score_run
from tests.bundles.runs import BUNDLES, ROOT
from tests.evaluation.runs import config_files, evaluate, head_ct, mvtec, settings, volumes

# What a method has that others have not.
OWN = {"average", "sigma", "network_def#sigma", "views", "domain"}


def states(folder: Path) -> dict[str, tuple[int, str]]:
    """Time of change and hash of every prediction."""
    return {
        file.name: (file.stat().st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest())
        for file in sorted((folder / "predictions").iterdir())
    }


def tables(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in TABLE_FILES]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sets")
    return {"headct": head_ct(root / "headct"), "mvtec-ad": mvtec(root / "mvtec"), "volumes": volumes(root / "volumes")}


@pytest.fixture(scope="module")
def done(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crane on four pictures of two classes."""
    output = tmp_path_factory.mktemp("done") / "out"
    evaluate("crane", "mvtec-ad", data["mvtec-ad"], output, page=False)
    return output


def refused(kind: type[ZsadError], words: str, *arguments: Any, **options: Any) -> None:
    # MONAI wraps what a configuration's expression raises.
    with pytest.raises((ZsadError, RuntimeError)) as caught:
        evaluate(*arguments, **options)
    error = find_user_error(caught.value)
    assert isinstance(error, kind)
    assert words in str(error)


def test_overlays_are_the_same_but_for_what_a_method_has() -> None:
    read = {
        bundle.name: yaml.safe_load((bundle / "configs" / "evaluate.yaml").read_text(encoding="utf-8"))
        for bundle in BUNDLES
    }
    several = {(bundle / "configs" / "multi_gpu_evaluate.yaml").read_text(encoding="utf-8") for bundle in BUNDLES}
    assert len(several) == 1
    common = read["crane"].keys() - OWN
    for name, content in read.items():
        assert content.keys() - OWN == common
        assert content["method"] == name
        for key in common - {"method", "own_settings"}:
            assert content[key] == read["crane"][key], f"{key} of {name}"


@pytest.mark.parametrize("name", [bundle.name for bundle in BUNDLES])
def test_every_reference_is_there(name: str, data: dict[str, Path], tmp_path: Path) -> None:
    parser = ConfigParser()
    parser.read_config(config_files(name))
    parser.update(
        {**settings(name), "benchmark": "headct", "dataset_dir": str(data["headct"]), "output_dir": str(tmp_path)}
    )
    assert parser.get_parsed_content("evaluator") is not None
    assert parser.get_parsed_content("evaluation").protocol.method == name
    unset = ConfigParser()
    unset.read_config(config_files(name))
    assert unset.get_parsed_content("chosen").image_size == unset.get_parsed_content("image_size")


def test_predictions_are_the_networks(done: Path, data: dict[str, Path]) -> None:
    parser = ConfigParser()
    parser.read_config(config_files("crane"))
    options = settings("crane") | {
        "benchmark": "mvtec-ad",
        "dataset_dir": str(data["mvtec-ad"]),
        "output_dir": str(done),
    }
    parser.update(options)
    network = parser.get_parsed_content("network_def")
    network.load_weights(clip="seed:0", prompts="seed:0")
    for record in benchmark_cases("mvtec-ad", data["mvtec-ad"]):
        found = load_prediction(prediction_file(done, record["case"]))
        with torch.no_grad():
            wanted = network(LoadPicture(56)(record["image"])[None])[0]
        torch.testing.assert_close(torch.from_numpy(found.anomaly), wanted[0], atol=2e-6, rtol=0)
        assert found.score == pytest.approx(float(wanted[1, 0, 0]), abs=2e-6)
        assert found.truth is not None
        np.testing.assert_array_equal(found.truth, LoadTruth(56)(record["mask"])[0].numpy() > 0)
        assert (found.label, found.class_name) == (record["label"], record["class_name"])
    text = (done / "figures.md").read_text(encoding="utf-8")
    assert "NOT A RESULT" in text
    assert "image_size is 56, not 518" in text


def test_resuming_computes_nothing_again(done: Path, data: dict[str, Path]) -> None:
    before, written = states(done), tables(done)
    assert len(before) == 8
    evaluate("crane", "mvtec-ad", data["mvtec-ad"], done, page=False)
    assert states(done) == before
    assert tables(done) == written
    lost = prediction_file(done, "grid/test/spot/001.png")
    lost.unlink()
    evaluate("crane", "mvtec-ad", data["mvtec-ad"], done, page=False)
    after = states(done)
    assert {name for name in before if after[name] != before[name]} == {lost.name}
    assert after[lost.name][1] == before[lost.name][1]
    assert tables(done) == written
    score_run(done, bootstrap=20, page=False)
    assert tables(done) == written


def test_another_model_or_protocol_is_refused(done: Path, data: dict[str, Path]) -> None:
    before = states(done)
    arguments = ("crane", "mvtec-ad", data["mvtec-ad"], done)
    refused(OutputError, "(another model): add --overwrite", *arguments, seed=1)
    refused(OutputError, "(other settings): add --overwrite", *arguments, sigma=2)
    refused(OutputError, "(another protocol): add --overwrite", *arguments, protocol="crane")
    refused(OutputError, "--overwrite true", *arguments, image_size=28)
    assert states(done) == before
    description = (done / "evaluation.json").read_bytes()
    (done / "evaluation.json").unlink()
    refused(OutputError, "no evaluation.json", *arguments)
    (done / "evaluation.json").write_bytes(description)


def test_a_changed_picture_is_refused(data: dict[str, Path], tmp_path: Path) -> None:
    folder = head_ct(tmp_path / "set", 1)
    evaluate("crane", "headct", folder, tmp_path / "out", page=False)
    picture = folder / "head_ct" / "head_ct" / "000.png"
    picture.write_bytes((data["headct"] / "head_ct" / "head_ct" / "001.png").read_bytes() + b" ")
    refused(OutputError, "--overwrite", "crane", "headct", folder, tmp_path / "out")
    before = states(tmp_path / "out")
    evaluate("crane", "headct", folder, tmp_path / "out", overwrite=True, page=False)
    after = states(tmp_path / "out")
    assert sum(before[name] != after[name] for name in before) == 1


# AnoCLIP has 924 sentences for each class.
@pytest.mark.parametrize("bundle", ["aaclip", pytest.param("anoclip", marks=pytest.mark.slow), "tiny_screening"])
def test_words_of_each_class(bundle: str, data: dict[str, Path], tmp_path: Path) -> None:
    options = {"page": False, **({"views": 1} if bundle == "anoclip" else {})}
    evaluate(bundle, "mvtec-ad", data["mvtec-ad"], tmp_path / "one", **options, batch_size=2)
    evaluate(bundle, "mvtec-ad", data["mvtec-ad"], tmp_path / "small", **options, batch_size=1)
    for file in (tmp_path / "one" / "predictions").iterdir():
        one, other = (load_prediction(tmp_path / name / "predictions" / file.name) for name in ("one", "small"))
        np.testing.assert_allclose(one.anomaly, other.anomaly, atol=2e-4)
        assert one.score == pytest.approx(other.score, abs=2e-4)
    if bundle == "aaclip":
        # The sum over the levels, which no probability can be.
        assert one.anomaly.max() > 1 or one.anomaly.min() < 0
    if bundle != "tiny_screening":
        words = {"bottle": "quite another thing"}
        evaluate(bundle, "mvtec-ad", data["mvtec-ad"], tmp_path / "words", **options, class_words=words)
        for case, same in (("grid/test/spot/000.png", True), ("bottle/test/spot/000.png", False)):
            pair = [load_prediction(prediction_file(tmp_path / name, case)).anomaly for name in ("one", "words")]
            assert np.allclose(pair[0], pair[1], atol=1e-5) == same


@pytest.mark.parametrize("bundle", ["crane", "tiny_screening"])
def test_volumes_on_their_own_grids(bundle: str, data: dict[str, Path], tmp_path: Path) -> None:
    evaluate(bundle, "volumes", data["volumes"], tmp_path / "out", map_dtype="float16")
    found = [load_prediction(path) for path in sorted((tmp_path / "out" / "predictions").iterdir())]
    assert [one.anomaly.shape for one in found] == [(40, 36, 12)] * 2
    for one in found:
        assert one.truth is not None
        assert one.region is not None
        assert one.slice_scores is not None
        assert one.truth.sum() == 6 * 6 * 3
        assert one.region[one.truth].mean() > 0.9
        np.testing.assert_array_equal(one.affine, np.diag([2.0, 2.0, 4.0, 1.0]))
        # The network ran the slices that show the body.
        assert np.isfinite(one.slice_scores).sum() == (one.anomaly.max((0, 1)) > 0).sum()
        assert not one.truth[..., one.picture_slice].sum() < one.truth.sum((0, 1)).max()
    text = (tmp_path / "out" / "figures.md").read_text(encoding="utf-8")
    assert "All volumes together" in text
    assert "inside the region `body`" in text
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "FROC" in page
    assert "NOT A RESULT" in page
    before = states(tmp_path / "out")
    evaluate(bundle, "volumes", data["volumes"], tmp_path / "out", map_dtype="float16")
    assert states(tmp_path / "out") == before
    refused(
        OutputError,
        "other settings",
        bundle,
        "volumes",
        data["volumes"],
        tmp_path / "out",
        map_dtype="float16",
        region="all",
    )


def test_refusals(data: dict[str, Path], tmp_path: Path) -> None:
    refused(ConfigurationError, "did you mean headct", "crane", "headtc", data["headct"], tmp_path)
    refused(InputError, "holds no images of BrainMRI", "crane", "brainmri", data["headct"], tmp_path)
    refused(ConfigurationError, "map_dtype", "crane", "headct", data["headct"], tmp_path, map_dtype="int8")
    refused(
        ConfigurationError, "min_overlap", "crane", "headct", data["headct"], tmp_path, **{"scoring#min_overlap": 3}
    )
    refused(ConfigurationError, "region", "crane", "volumes", data["volumes"], tmp_path, region="liver")
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.slow
def test_two_processes_give_what_one_gives(done: Path, data: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "two"
    words = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "monai.bundle",
    ]
    words += ["run", "--config_file", str(config_files("crane", "multi_gpu_evaluate")), "--benchmark", "mvtec-ad"]
    words += ["--dataset_dir", str(data["mvtec-ad"]), "--output_dir", str(output)]
    options = {key: value for key, value in settings("crane").items() if key != "device"}
    words += [f"--{name}={value}" for name, value in options.items()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(words, cwd=ROOT.parent, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("# MVTec-AD, Crane") == 1
    assert run.stdout.count("0 cases are done already, 8 remain") == 2
    for file in (done / "predictions").iterdir():
        one, other = (load_prediction(folder / "predictions" / file.name) for folder in (done, output))
        np.testing.assert_allclose(one.anomaly, other.anomaly, atol=2e-6)
    assert (output / "figures.csv").read_text().count("\n") == (done / "figures.csv").read_text().count("\n")
