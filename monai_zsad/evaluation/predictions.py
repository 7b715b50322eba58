"""Files of an evaluation: the description of the run, and the prediction of each case.

From these files, the metrics can be computed again without the network.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.errors import InputError, OutputError
from monai_zsad.writers import atomic_path, content_hash, fingerprint

__all__ = [
    "Prediction",
    "describe_run",
    "files_hash",
    "load_prediction",
    "prediction_file",
    "read_facts",
    "read_run",
    "run_difference",
    "save_prediction",
]

RUN_FILE = "evaluation.json"
RUN_SCHEMA, RUN_SCHEMA_VERSION = "monai-zsad/evaluation", 1
SCHEMA, SCHEMA_VERSION = "monai-zsad/prediction", 1
FOLDER = "predictions"

_MASKS = ("truth", "region")
_ARRAYS = ("anomaly", *_MASKS, "slice_scores", "picture", "affine")
_DAMAGED = (OSError, EOFError, ValueError, LookupError, TypeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Prediction:
    """Map, score and truth of one image or volume, from which the metrics are computed.

    Attributes:
        case: id in the set.
        class_name: class in the set.
        label: 0 normal, 1 anomalous.
        score: score of the image or volume; higher is more suspicious.
        anomaly: float32, (rows, columns) of an image at the network's input size, or (X, Y, Z) on the scan's grid.
        truth: bool of the same shape, or ``None`` if the set has no masks.
        region: bool of the same shape, true where voxels count; ``None`` if all voxels count.
        slice_scores: (Z,), the network's own score of each slice; NaN for slices that it did not run.
        picture: image for display, uint8, (rows, columns) or (rows, columns, 3). For a volume, it is the slice
            ``picture_slice``.
        picture_slice: index along the third axis; -1 for an image.
        affine: (4, 4), index to mm in RAS; ``None`` for an image.
        run: hash of model and protocol, see :class:`~monai_zsad.evaluation.EvaluationRun`.
        files: hash of the files of the image and the mask.
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
    """File of a case. Its name is the id, without characters that file names cannot hold, and 8 digits of its hash.

    >>> prediction_file("out", "no/1 no.jpg").as_posix()
    'out/predictions/no_1_no.jpg-72e1aaa7.npz'
    """
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", case).strip("._")[-80:]
    return Path(output_dir) / FOLDER / f"{plain}-{hashlib.sha256(case.encode()).hexdigest()[:8]}.npz"


def save_prediction(prediction: Prediction, output_dir: str | os.PathLike[str], dtype: str = "float32") -> Path:
    """Write a prediction completely or not at all. Masks are stored as bits.

    Args:
        prediction: the prediction to write.
        output_dir: folder of the run. :func:`prediction_file` gives the name of the file.
        dtype: type of the map: ``"float32"`` or ``"float16"``. The latter halves the file but makes close values equal.

    Raises:
        OutputError: the file cannot be written, or the map holds NaN or infinity.
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
    """Read everything in a prediction's file except its arrays.

    Raises:
        InputError: the file is damaged or not a prediction.
    """
    return _reading(path, _facts)


def load_prediction(path: Path) -> Prediction:
    """Read a file of :func:`save_prediction`.

    Raises:
        InputError: the file is damaged or not a prediction.
    """
    return _reading(path, _load)


def _reading(path: Path, function: Any) -> Any:
    try:
        with np.load(path, allow_pickle=False) as content:
            return function(content)
    except _DAMAGED as error:
        raise InputError(
            f"{path}: is damaged or not a prediction of this package ({type(error).__name__}); remove it and run the "
            "evaluation again, which makes the missing predictions"
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


def describe_run(facts: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Content of ``evaluation.json``, in plain values.

    Args:
        facts: benchmark, protocol, model and settings. The hash ``run`` is computed from them.
        cases: id, class and label of each case.
    """
    head = {"schema": RUN_SCHEMA, "schema_version": RUN_SCHEMA_VERSION, "run": content_hash(facts)}
    return json.loads(json.dumps({**head, **facts, "cases": cases}, sort_keys=True))


def read_run(output_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the ``evaluation.json`` of an evaluation.

    Raises:
        InputError: the file is missing or damaged.
    """
    file = Path(output_dir).expanduser() / RUN_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if (content["schema"], content["schema_version"]) != (RUN_SCHEMA, RUN_SCHEMA_VERSION):
            raise ValueError("another schema")
        if not {"run", "benchmark", "protocol", "model", "cases"} <= content.keys():
            raise ValueError("parts are missing")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: is missing or not an evaluation of this package; give the output folder "
            "of a bundle's evaluate.yaml"
        ) from error
    return content


def run_difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name the parts in which two runs differ, for a message."""
    names = {"benchmark": "another set", "protocol": "another protocol", "model": "another model"}
    names["settings"] = "other settings"
    found = [name for key, name in names.items() if earlier.get(key) != now[key]]
    return ", ".join(found) or "another version"


def files_hash(record: Mapping[str, Any]) -> str:
    """Hash of the files of a case's image and mask."""
    return str(fingerprint(source_files=[path for path in (record["image"], record["mask"]) if path]).input)
