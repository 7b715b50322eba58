"""Evaluations of sets in which a case fails: the others are kept, the failed ones named, and tried again alone."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from monai_zsad.data import find_user_error
from monai_zsad.errors import InputError, ZsadError
from monai_zsad.evaluation.predictions import load_prediction, prediction_file
from tests.bundles.runs import ROOT
from tests.evaluation.runs import config_files, evaluate, head_ct, mvtec, settings, volumes
from tests.evaluation.test_evaluate import states, tables

DAMAGED = "grid/test/spot/000.png"


class NotFinite(nn.Module):
    """A network that answers NaN where a picture is brighter on the whole than a limit."""

    def __init__(self, network: nn.Module, limit: float) -> None:
        super().__init__()
        self.network = network
        self.limit = limit

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        bright = pictures.flatten(1).mean(1) > self.limit
        return torch.where(bright[:, None, None, None], torch.nan, self.network(pictures))


def faulty(limit: float) -> dict[str, Any]:
    return {"evaluator#network": {"_target_": f"{__name__}.NotFinite", "network": "@network", "limit": limit}}


def failure(*arguments: Any, **options: Any) -> str:
    with pytest.raises((ZsadError, RuntimeError)) as caught:
        evaluate(*arguments, **options)
    error = find_user_error(caught.value)
    assert isinstance(error, InputError)
    return str(error)


def failed(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def truncate(path: Path) -> bytes:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return content


# With batches of four: one of the first batch and one of the second, or two of the second.
@pytest.mark.parametrize(("batch_size", "white"), [(1, "bottle"), (4, "bottle"), (4, "grid")])
def test_pictures(batch_size: int, white: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = mvtec(tmp_path / "set")
    white = f"{white}/test/good/001.png"
    Image.new("L", (64, 64), 255).save(data / white)
    whole = truncate(data / DAMAGED)
    caplog.set_level(logging.INFO)
    arguments = ("crane", "mvtec-ad", data, tmp_path / "out")
    options: dict[str, Any] = {"page": False, "batch_size": batch_size}
    message = failure(*arguments, **options, **faulty(0.99))
    assert f"2 of 8 cases have no prediction of this run ({white}, {DAMAGED}): " in message
    logged = failed(caplog)
    assert len(logged) == 2
    assert any(line.startswith(f"{white} failed: map or score holds NaN") for line in logged)
    assert any(line.startswith(f"{DAMAGED} failed: ") and "cannot be read" in line for line in logged)
    before = states(tmp_path / "out")
    assert len(before) == 6
    assert not list((tmp_path / "out").glob("figures.*"))

    (data / DAMAGED).write_bytes(whole)
    caplog.clear()
    evaluate(*arguments, **options)
    assert "6 cases are done already, 2 remain" in caplog.text
    after = states(tmp_path / "out")
    assert len(after) == 8
    assert {name: after[name] for name in before} == before
    evaluate("crane", "mvtec-ad", data, tmp_path / "other", page=False, batch_size=batch_size)
    for file in (tmp_path / "other" / "predictions").iterdir():
        one, other = (
            load_prediction(folder / "predictions" / file.name) for folder in (tmp_path / "out", file.parents[1])
        )
        np.testing.assert_allclose(one.anomaly, other.anomaly, atol=2e-6)
    assert len(tables(tmp_path / "out")) == 3


def test_an_earlier_prediction_of_another_file_is_not_scored(tmp_path: Path) -> None:
    data, output = head_ct(tmp_path / "set", 2), tmp_path / "out"
    evaluate("aaclip", "headct", data, output, page=False)
    before = states(output)
    picture = data / "head_ct" / "head_ct" / "001.png"
    truncate(picture)
    assert "1 of 4 cases" in failure("aaclip", "headct", data, output, page=False, overwrite=True)
    assert not prediction_file(output, "head_ct/head_ct/001.png").exists()
    after = states(output)
    assert len(after) == 3
    assert after.items() <= before.items()


def test_volumes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, output = volumes(tmp_path / "set", 3), tmp_path / "out"
    truncate(data / "case0.nii.gz")
    mask = np.ones((40, 36, 11), np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), data / "case1_mask.nii.gz")
    message = failure("tiny_screening", "volumes", data, output, page=False, **faulty(-1))
    assert "3 of 3 cases have no prediction" in message
    assert ["non-finite" in line for line in failed(caplog)] == [False, True, True]
    caplog.clear()
    assert "2 of 3 cases have no prediction" in failure("tiny_screening", "volumes", data, output, page=False)
    assert ["another grid" in line for line in failed(caplog)] == [False, True]
    assert len(states(output)) == 1


@pytest.mark.slow
def test_a_failure_in_one_process_keeps_no_other_waiting(tmp_path: Path) -> None:
    data, output = mvtec(tmp_path / "set"), tmp_path / "out"
    truncate(data / DAMAGED)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    words += ["monai.bundle", "run", "--config_file", str(config_files("crane", "multi_gpu_evaluate"))]
    words += ["--benchmark", "mvtec-ad", "--dataset_dir", str(data), "--output_dir", str(output)]
    words += [f"--{name}={value}" for name, value in settings("crane").items() if name != "device"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MONAI_ZSAD_TRACEBACK": ""}
    run = subprocess.run(words, cwd=ROOT.parent, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1, run.stdout + run.stderr
    assert run.stderr.count(f"1 of 8 cases have no prediction of this run ({DAMAGED})") == 1
    assert (run.stdout + run.stderr).count(f"{DAMAGED} failed: ") == 1
    assert len(states(output)) == 7
    assert not (output / "figures.md").exists()
