"""Training bundles within tests: tiny CLIP with seeded weights, one process or several."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from tests.bundles.runs import ROOT, SMALL

SMALL_TRAINING: dict[str, Any] = {**SMALL, "weights#clip": "seed:0", "batch_size": 2, "validation_fraction": 0.25}


def config_files(bundle: str, *overlays: str) -> list[str]:
    return [str(ROOT / bundle / "configs" / f"{name}.yaml") for name in ("inference", "train", *overlays)]


def training_parser(bundle: str, data: Path, output: Path, **overrides: Any) -> ConfigParser:
    """A bundle's training, configured but not started."""
    parser = ConfigParser()
    parser.read_config(config_files(bundle))
    folders = {"bundle_root": str(ROOT / bundle), "dataset_dir": str(data), "output_dir": str(output)}
    parser.update({**SMALL_TRAINING, **folders, **overrides})
    return parser


def train(bundle: str, data: Path, output: Path, **overrides: Any) -> ConfigParser:
    """What ``python -m monai.bundle run`` does, in this process."""
    parser = training_parser(bundle, data, output, **overrides)
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("run")
    return parser


def command(bundle: str, data: Path, output: Path, *overlays: str, **overrides: Any) -> list[str]:
    """Arguments of ``python``, or of ``torchrun``, as a user types them."""
    files = str(config_files(bundle, *overlays))
    words = ["-m", "monai.bundle", "run", "--config_file", files, "--bundle_root", str(ROOT / bundle)]
    words += ["--dataset_dir", str(data), "--output_dir", str(output)]
    return words + [f"--{name}={value}" for name, value in {**SMALL_TRAINING, **overrides}.items()]


def start(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start ``python`` with ``words``; what it prints goes to ``log``."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "MONAI_ZSAD_TRACEBACK": ""}
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, *words], cwd=ROOT.parent, env=environment, stdout=stream, stderr=subprocess.STDOUT
        )
