"""Evaluations within tests: every bundle made small, seeded weights, miniature sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np

from monai_zsad.evaluation.predictions import Prediction
from tests.bundles.runs import ROOT, seeded, small
from tests.data.benchmarks.miniature import make_head_ct
from tests.data.labelled import make_mvtec, make_volumes

FAST: dict[str, Any] = {"device": "cpu", "progress": False, "scoring#bootstrap": 20}


def config_files(bundle: str, *overlays: str) -> list[str]:
    return [str(ROOT / bundle / "configs" / f"{name}.yaml") for name in ("inference", "evaluate", *overlays)]


def settings(bundle: str, seed: int = 0, **overrides: Any) -> dict[str, Any]:
    folder = ROOT / bundle
    return {"bundle_root": str(folder), **FAST, **small(folder), **seeded(folder, seed), **overrides}


def evaluate(bundle: str, benchmark: str, data: Path, output: Path, *, seed: int = 0, **overrides: Any) -> None:
    """``python -m monai.bundle run`` within this process."""
    options = settings(bundle, seed, **overrides)
    monai.bundle.run(
        config_file=config_files(bundle),
        logging_file=False,
        benchmark=benchmark,
        dataset_dir=str(data),
        output_dir=str(output),
        **options,
    )


def head_ct(root: Path, count: int = 3) -> Path:
    make_head_ct(root, count)
    return root


def mvtec(root: Path, classes: tuple[str, ...] = ("bottle", "grid"), count: int = 2) -> Path:
    return make_mvtec(root, classes, count)


def volumes(root: Path, count: int = 2) -> Path:
    return make_volumes(root, count)


def random_predictions(count: int, size: int = 16, seed: int = 0, class_name: str = "brain") -> list[Prediction]:
    """Half of them anomalous, with a square that scores higher on the whole."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        truth = np.zeros((size, size), bool)
        if index % 2:
            row, column = rng.integers(0, size // 2, 2)
            truth[row : row + 5, column : column + 4] = True
        anomaly = np.clip(rng.random((size, size)) * 0.7 + 0.3 * truth, 0, 1).astype(np.float32)
        score = float(np.clip(rng.random() * 0.6 + 0.3 * (index % 2), 0, 1))
        picture = rng.integers(0, 255, (size, size)).astype(np.uint8)
        found.append(
            Prediction(
                f"{class_name}/{index}.png", class_name, index % 2, score, anomaly, truth, picture=picture,
            )
        )  # fmt: skip
    return found
