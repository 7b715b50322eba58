"""What a network said of each case, kept so that figures can be taken again without it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.errors import InputError, OutputError
from monai_zsad.writers import atomic_path

__all__ = ["Prediction", "load_prediction", "prediction_file", "read_facts", "save_prediction"]

SCHEMA = "monai-zsad/prediction"
SCHEMA_VERSION = 1
FOLDER = "predictions"

_MASKS = ("truth", "region")
_ARRAYS = ("anomaly", *_MASKS, "slice_scores", "picture", "affine")
_DAMAGED = (OSError, EOFError, ValueError, LookupError, TypeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Prediction:
    """Map, score and truth of one image or volume, as they are scored.

    Attributes:
        case: its id in the set.
        class_name: of the set.
        label: 0 normal, 1 anomalous.
        score: of the image or volume, higher is more suspicious.
        anomaly: float32, (rows, columns) of a picture at the network's input size, or (X, Y, Z) on the scan's grid.
        truth: bool of the same shape, or ``None`` where the set has no masks.
        region: bool of the same shape: where voxels count; ``None`` for everywhere.
        slice_scores: (Z,), the network's own score of each slice; NaN where it ran none.
        picture: uint8, (rows, columns) or (rows, columns, 3): for showing. Of a volume the slice ``picture_slice``.
        picture_slice: index along the third axis; -1 of a picture.
        affine: (4, 4), index to mm in RAS; ``None`` of a picture.
        run: hash of model and protocol, see :class:`EvaluationRun`.
        files: hash of the image's and the mask's files.
    """

    case: str
    class_name: str
    label: int
    score: float
    anomaly: np.ndarray
    truth: np.ndarray | None = None
    region: np.ndarray | None = None
    slice_scores: np.ndarray | None = None
    picture: np.ndarray | None = None
    picture_slice: int = -1
    affine: np.ndarray | None = None
    run: str = ""
    files: str = ""


def prediction_file(output_dir: str | os.PathLike[str], case: str) -> Path:
    """File of a case: its id with what file names cannot hold replaced, and eight digits that tell ids apart.

    >>> prediction_file("out", "no/1 no.jpg").as_posix()
    'out/predictions/no_1_no.jpg-72e1aaa7.npz'
    """
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", case).strip("._")[-80:]
    return Path(output_dir) / FOLDER / f"{plain}-{hashlib.sha256(case.encode()).hexdigest()[:8]}.npz"


def save_prediction(prediction: Prediction, output_dir: str | os.PathLike[str], dtype: str = "float32") -> Path:
    """Write a prediction whole or not at all; masks as bits.

    Args:
        prediction: to write.
        output_dir: folder of the run; the file is that of :func:`prediction_file`.
        dtype: of the map: ``"float32"``, or ``"float16"``, half the size, in which near values become equal.

    Raises:
        OutputError: if it cannot be written, or the map holds NaN or infinity.
    """
    if not np.isfinite(prediction.anomaly).all() or not np.isfinite(prediction.score):
        raise OutputError(f"{prediction.case}: map or score holds NaN or infinity; run in float32 (amp off)")
    facts: dict[str, Any] = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION}
    facts |= {key: value for key, value in vars(prediction).items() if key not in _ARRAYS}
    arrays: dict[str, np.ndarray] = {"anomaly": prediction.anomaly.astype(dtype)}
    for name in _ARRAYS[1:]:
        values = getattr(prediction, name)
        if values is not None:
            arrays[name] = np.packbits(values) if name in _MASKS else values
    path = prediction_file(output_dir, prediction.case)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot be made ({error.strerror}); give another --output_dir") from error
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)  # type: ignore[arg-type]  # numpy's stubs take names for allow_pickle
    return path


def read_facts(path: Path) -> dict[str, Any]:
    """What a prediction's file says beside its arrays, which are not read.

    Raises:
        InputError: if it is damaged or none.
    """
    return _reading(path, _facts)


def load_prediction(path: Path) -> Prediction:
    """Read what :func:`save_prediction` wrote.

    Raises:
        InputError: if it is damaged or none.
    """
    return _reading(path, _load)


def _reading(path: Path, function: Any) -> Any:
    try:
        with np.load(path, allow_pickle=False) as content:
            return function(content)
    except _DAMAGED as error:
        raise InputError(
            f"{path}: is no prediction of this package, or damaged ({type(error).__name__}); remove it and run the "
            "evaluation again, which makes what is missing"
        ) from error


def _facts(content: Mapping[str, np.ndarray]) -> dict[str, Any]:
    facts = json.loads(content["facts"].tobytes().decode())
    if (facts.pop("schema"), facts.pop("schema_version")) != (SCHEMA, SCHEMA_VERSION):
        raise ValueError("another schema")
    return facts


def _load(content: Mapping[str, np.ndarray]) -> Prediction:
    facts = _facts(content)
    anomaly = content["anomaly"].astype(np.float32)
    arrays: dict[str, Any] = {"anomaly": anomaly}
    for name in _ARRAYS[1:]:
        if name in content:
            values = content[name]
            if name in _MASKS:
                values = np.unpackbits(values, count=anomaly.size).astype(bool).reshape(anomaly.shape)
            arrays[name] = values
    return Prediction(**facts, **arrays)
