"""The included model's train.yaml on small data: as a user starts it, interrupted, and in two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from monai_zsad.data import find_user_error
from monai_zsad.errors import ConfigurationError
from monai_zsad.training.slices.bank import OUTLINED
from monai_zsad.workflow.bundles import load_weights
from tests.conftest import ROOT
from tests.networks.small import CONFIG, SIZE, SLICES, small_network
from tests.training.toy import write_scan, write_tumours, write_volumes

BUNDLE = ROOT / "bundles" / "tiny_screening"
SMALL: dict[str, Any] = {
    "architecture": CONFIG,
    "image_size": SIZE,
    "records": [{"t1": "scan.nii.gz", "extracted": 0.5}],
    "validation_records": [{"t1": "scan.nii.gz"}],
    "head_phantoms": 0,
    "abdomen_phantoms": 0,
    "validation_slices": 6,
    "validation_every": 2,
    "held_out_patients": [3],
    "bank_slabs": 4,
    "counts": [2, 1, 0],
    "max_steps": 4,
    "epoch_steps": 2,
    "warmup_steps": 2,
    "save_every": 1,
    "settle": 0,
    "pretrained": "none",
    "compiled": False,
    "tensorboard": False,
    "threads": 1,
    "calibration": None,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_tumours(folder / "tumours_t1c")
    write_volumes(folder / "btp")
    write_scan(folder / "scan.nii.gz")
    return folder


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slices")


def parser_of_bundle() -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / name) for name in ("inference.yaml", "train.yaml")])
    return parser


def configured(data: Path, output: Path, slices: Path, **options: Any) -> ConfigParser:
    parser = parser_of_bundle()
    folders = {"bundle_root": str(BUNDLE), "dataset_dir": str(data), "output_dir": str(output), "device": "cpu"}
    parser.update({**SMALL, **folders, "slices_dir": str(slices), **options})
    return parser


def run(parser: ConfigParser) -> ConfigParser:
    try:
        parser.get_parsed_content("initialize")
        parser.get_parsed_content("run")
    finally:
        set_determinism(None)
    return parser


def weights(output: Path) -> dict[str, torch.Tensor]:
    return torch.load(output / "resume_network.pt", weights_only=True)["learned"]


@pytest.fixture(scope="module")
def whole(data: Path, slices: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    run(configured(data, output, slices))
    return output


def test_a_training_writes_a_model_for_inference(whole: Path) -> None:
    network = small_network()
    load_weights(network, {"model": None}, {"model": None}, whole / "model.pt")
    with torch.no_grad():
        assert network(SLICES).isfinite().all()
    state = torch.load(whole / "resume_network.pt", weights_only=True)
    assert state["iteration"] == 8, "two parts of each of four steps"
    steps = {int(one["step"]) for one in state["optimizer"]["state"].values()}
    assert steps == {4}
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0, abs=1e-6), "the cosine ends at 0"


def test_an_interrupted_training_ends_as_if_it_had_not_been(
    data: Path, slices: Path, whole: Path, tmp_path: Path
) -> None:
    parser = configured(data, tmp_path, slices)

    def stop(engine: Any) -> None:
        if engine.state.iteration == 7:
            raise KeyboardInterrupt

    parser.get_parsed_content("train#trainer").add_event_handler(Events.ITERATION_STARTED, stop)
    with pytest.raises(KeyboardInterrupt):
        run(parser)
    state = torch.load(tmp_path / "resume_network.pt", weights_only=True)
    assert state["iteration"] == 6, "a whole step"
    run(configured(data, tmp_path, slices))
    found = weights(tmp_path)
    for name, value in weights(whole).items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


def test_outlines_of_bright_lesions_are_made_on_the_way(data: Path, tmp_path: Path) -> None:
    image = nibabel.load(data / "scan.nii.gz")
    pixels = image.get_fdata()
    pixels[20:24, 22:26, 11:13] = 900
    nibabel.save(nibabel.Nifti1Image(pixels, image.affine), data / "flair.nii.gz")
    nibabel.save(nibabel.Nifti1Image((pixels > 800).astype(np.float32), image.affine), data / "flair_map.nii.gz")
    flair = {"flair": "flair.nii.gz", "shows": "ms"}
    options = {
        "records": [*SMALL["records"], flair],
        "outlined_records": [{**flair, "anomaly": "flair_map.nii.gz", "frequency": 2}],
        "outlined_slabs": 3,
        "counts": [1, 1, 0, 1],
        "max_steps": 2,
    }
    parser = run(configured(data, tmp_path / "out", tmp_path / "slices", **options))
    outlined = parser.get_parsed_content("outlined")
    assert (outlined.masks[:] & OUTLINED).any()
    assert outlined.facts[:, 0].all()
    assert len(parser.get_parsed_content("bank").volumes) == 1, "the outlined scan is no normal tissue"
    assert (tmp_path / "out" / "model.pt").is_file()
    left_out = configured(data, tmp_path / "other", tmp_path / "slices", leave_out="ms", **options)
    assert left_out.get_parsed_content("outlined") is None


def test_other_data_do_not_go_on(data: Path, slices: Path, whole: Path) -> None:
    with pytest.raises((ConfigurationError, RuntimeError)) as caught:
        run(configured(data, whole, slices, leave_out="glioma"))
    assert "leave_out was None, is glioma" in str(find_user_error(caught.value))


def test_the_learning_rate_rises_and_falls_by_steps(tmp_path: Path) -> None:
    options = {"max_steps": 3000, "warmup_steps": 100, "world_size": 1}
    parser = configured(tmp_path, tmp_path, tmp_path, **options)
    parser["train"]["optimizer"] = {"_target_": "torch.optim.SGD", "params": [torch.zeros(1)], "lr": 1.0}
    rate = parser.get_parsed_content("train#lr_scheduler").lr_lambdas[0]
    assert [rate(2 * step) for step in (0, 99, 1500, 3000)] == pytest.approx([0.01, 0.997, 0.5, 0], abs=1e-3)
    assert rate(1) == rate(0), "two batches of one step"


def test_scans_that_show_ms_are_marked(tmp_path: Path) -> None:
    parser = parser_of_bundle()
    for name in ("records", "validation_records"):
        for record in parser[name]:
            shows = "ms3d" in str(record) or "FLAIR" in str(record)
            assert record.get("shows") == ("ms" if shows else None)
    assert not any("FLAIR" in str(record) and "ms3d" in str(record) for record in parser["records"]), "for the test"


def test_the_calibration_of_a_whole_run(data: Path, slices: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_tumours(folder / "tumours_t1c", blocks=10)
    write_volumes(folder / "btp")
    write_scan(folder / "scan.nii.gz")
    options = {"max_steps": 1, "epoch_steps": 1, "known_slices": 8}
    parser = configured(folder, tmp_path / "out", slices, **options)
    parser["calibration"] = parser_of_bundle()["calibration"]
    run(parser)
    record = json.loads((tmp_path / "out" / "model.json").read_text())["calibration"]
    assert record["blocks"] == [4, 9]
    assert record["slices"]["tumour"] == 6
    assert record["slices"]["normal"] >= 2
    assert record["slices"]["known"] == 8
    assert json.loads((tmp_path / "out" / "model.json").read_text())["weights"]["network"]["licence"] == "Apache-2.0"


@pytest.mark.slow
def test_two_processes_train_as_one(data: Path, slices: Path, whole: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "small.json"
    overlay.write_text(json.dumps(SMALL | {"slices_dir": str(slices), "device": "cpu"}))
    files = [str(BUNDLE / "configs" / name) for name in ("inference.yaml", "train.yaml")] + [str(overlay)]
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "monai.bundle", "run"]
    words += ["--config_file", str(files), "--bundle_root", str(BUNDLE), "--dataset_dir", str(data)]
    words += ["--output_dir", str(tmp_path / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = weights(whole), weights(tmp_path / "two")
    for name, value in one.items():
        # Adam makes whole steps of rounding where a gradient is near 0.
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=5e-4, msg=name)
