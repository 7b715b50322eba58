"""Predictions as files: whole or not at all, and what comes back is what was written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_zsad.errors import InputError, OutputError
from monai_zsad.evaluation.predictions import (
    Prediction,
    load_prediction,
    prediction_file,
    read_facts,
    save_prediction,
)
from tests.evaluation.runs import random_predictions


@given(
    shape=st.one_of(st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(1, 7)] * 3)),
    seed=st.integers(0, 99),
    has_truth=st.booleans(),
)
def test_round_trip(
    shape: tuple[int, ...], seed: int, has_truth: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(shape) > 0.5 if has_truth else None
    anomaly = rng.random(shape).astype(np.float32)
    scores = np.where(rng.random(shape[-1]) > 0.5, rng.random(shape[-1]), np.nan)
    picture = rng.integers(0, 255, (4, 5, 3)).astype(np.uint8)
    made = Prediction(
        "ä/b c.png",
        "x",
        1,
        0.25,
        anomaly,
        truth,
        truth,
        scores,
        picture,
        2,
        np.diag([1.0, 2.0, 0.5, 1.0]),
        "run",
        "files",
    )
    path = save_prediction(made, tmp_path_factory.mktemp("out"))
    found = load_prediction(path)
    for field in dataclasses.fields(Prediction):
        one, other = getattr(made, field.name), getattr(found, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other
    assert read_facts(path)["case"] == "ä/b c.png"


def test_names_are_safe_and_apart(tmp_path: Path) -> None:
    names = ["a/b.png", "a_b.png", "../../etc/passwd", "x" * 400, "..", "A/B.png"]
    files = [prediction_file(tmp_path, name) for name in names]
    assert len(set(files)) == len(names)
    for file in files:
        assert file.parent == tmp_path / "predictions"
        assert len(file.name) < 120


def test_half_precision_is_smaller(tmp_path: Path) -> None:
    (one,) = random_predictions(1, 64)
    sizes = [save_prediction(one, tmp_path / dtype, dtype).stat().st_size for dtype in ("float32", "float16")]
    assert sizes[1] < 0.8 * sizes[0]
    half = load_prediction(prediction_file(tmp_path / "float16", one.case)).anomaly
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, one.anomaly, atol=3e-4)


def test_nan_is_not_kept(tmp_path: Path) -> None:
    (one,) = random_predictions(1)
    with pytest.raises(OutputError, match=r"brain/0.png: map or score holds NaN"):
        save_prediction(dataclasses.replace(one, score=float("nan")), tmp_path)
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "pickle", "other"])
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    (one,) = random_predictions(1)
    path = save_prediction(one, tmp_path)
    content = path.read_bytes()
    if damage == "pickle":
        np.savez(path, facts=np.array([{"a": 1}], dtype=object), anomaly=one.anomaly)
    elif damage == "other":
        np.savez(path, facts=np.frombuffer(b"{}", np.uint8), anomaly=one.anomaly)
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "text": b"no archive", "empty": b""}[damage])
    with pytest.raises(InputError, match=r"npz: .* run the evaluation again"):
        load_prediction(path)
