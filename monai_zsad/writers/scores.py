"""The numbers of a case as JSON: scores, what they were computed from, and by what."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_zsad._version import __version__
from monai_zsad.errors import OutputError
from monai_zsad.writers.files import CaseLayout, atomic_path

__all__ = [
    "SCHEMA_VERSION",
    "SEEDED_WARNING",
    "SaveScoresD",
    "SaveScoresDict",
    "SaveScoresd",
    "described",
    "is_seeded",
    "scores",
]

SCHEMA_VERSION = 1
"""Version of the JSON's layout; it grows when a field changes its meaning or goes."""

SEEDED_WARNING = "made with seeded random weights: the values mean nothing"
"""What every output says that a network without trained weights has made."""


def is_seeded(model: Mapping[str, Any] | None) -> bool:
    """Whether a bundle's description of its model says that weights are random.

    That is, at any depth, a true ``seeded``, a ``seed`` that is not None (as in the backbones' weight records), or a
    weights source ``"seed:N"``.

    Example:
        >>> is_seeded({"method": "crane", "clip_weights": "seed:0"})
        True
        >>> is_seeded({"method": "crane", "weights": {"clip": {"name": "ViT-L-14-336:openai", "seed": None}}})
        False
    """
    return any(
        (key == "seeded" and bool(value))
        or (key == "seed" and value is not None)
        or (isinstance(value, str) and value.startswith("seed:"))
        or (isinstance(value, Mapping) and is_seeded(value))
        for key, value in (model or {}).items()
    )


def described(meta: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None) -> dict[str, Any]:
    """The description of a model, asked for now where ``meta`` is a function.

    Example:
        >>> described(lambda: {"method": "crane"})
        {'method': 'crane'}
    """
    return dict((meta() if callable(meta) else meta) or {})


def scores(data: Mapping[Hashable, Any], key: Hashable = "pred", model: Mapping[str, Any] | None = None) -> dict:
    """The JSON's content for a case, as plain Python values.

    Args:
        data: with ``case``, ``volume_score``, ``slice_scores``, the map under ``key`` on the scan's grid, and where
            they exist ``volume_score_method``, ``modality``, ``intensity``, ``warnings``.
        key: the anomaly map (1, X, Y, Z); its affine (RAS, mm) and shape describe the scan.
        model: the bundle's description of the network; see :func:`is_seeded`.

    Returns:
        a dictionary with ``schema_version``, ``case``, ``volume_score``, ``slice_scores``, ``scan``, ``model``,
        ``software``, ``warnings``.

    Raises:
        OutputError: if a score is missing, or a value is not finite.

    Example:
        >>> pred = MetaTensor(torch.zeros(1, 2, 3, 4), affine=torch.diag(torch.tensor([-1.0, -1.0, 3.0, 1.0])))
        >>> result = scores({"case": "anna", "pred": pred, "volume_score": 0.5, "slice_scores": []})
        >>> result["scan"]["orientation"], result["scan"]["spacing_mm"]
        ('LPS', [1.0, 1.0, 3.0])
    """
    import monai

    for needed in ("case", "volume_score", "slice_scores"):
        if data.get(needed) is None:
            raise OutputError(f"no {needed!r} in the data: put the transform that scores slices before the writers")
    result: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "case": data["case"]}
    result["volume_score"] = data["volume_score"]
    if data.get("volume_score_method") is not None:
        result["volume_score_method"] = data["volume_score_method"]
    result["slice_scores"] = data["slice_scores"]
    result["scan"] = _scan(data, key)
    result["model"] = dict(model or {})
    result["software"] = {"monai_zsad": __version__, "monai": monai.__version__, "torch": torch.__version__}
    result["warnings"] = ([SEEDED_WARNING] if is_seeded(model) else []) + _warnings(data, key)
    return _plain(result, "scores")


class SaveScoresd(MapTransform):
    """Write ``<output_dir>/<case>/<case>_scores.json``, the last file of a case: with it the case is complete.

    MONAI's ``ClassificationSaver`` and ``SaveClassificationd`` write one CSV row per case at the end of a run; scores
    per slice and what they were computed by have no place there, and a run that is killed leaves nothing. It stands
    last in a bundle's ``postprocessing``. The content is that of :func:`scores`; ``anomaly_map`` is added, the name of
    the map's file where it exists.

    Args:
        keys: the anomaly map, on the scan's grid. One key, as a case has one JSON.
        output_dir: folder of the run.
        meta: the bundle's description of its model, stored as ``model``; or a function that returns it, which is asked
            when a case is written, so that the weights are known however early the transform was made.
        output_postfix: of the JSON.
        map_postfix: of the map's file, as given to :class:`SaveCased`.
        map_ext: of the map's file.
        allow_missing_keys: do nothing where the data have no such key.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = tempfile.mkdtemp()
        >>> pred = MetaTensor(torch.zeros(1, 2, 3, 4), affine=torch.eye(4))
        >>> data = {"case": "anna", "pred": pred, "volume_score": 0.5, "slice_scores": []}
        >>> _ = SaveScoresd(keys="pred", output_dir=folder, meta={"method": "crane", "seeded": True})(data)
        >>> json.loads(Path(folder, "anna", "anna_scores.json").read_text())["warnings"]
        ['made with seeded random weights: the values mean nothing']
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | os.PathLike[str] = "./",
        meta: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
        output_postfix: str = "scores",
        map_postfix: str = "anomaly",
        map_ext: str = ".nii.gz",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.meta = meta
        self.layout = CaseLayout(output_dir, output_postfix, ".json", makedirs=True)
        self.map_layout = CaseLayout(output_dir, map_postfix, map_ext)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the JSON and return the data unchanged.

        Raises:
            OutputError: see :func:`scores`; or if the file cannot be written.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            content = scores(d, key, described(self.meta))
            case = str(content["case"])
            map_file = self.map_layout.filename(subject=case)
            content["anomaly_map"] = map_file.name if map_file.is_file() else None
            with atomic_path(self.layout.filename(subject=case)) as temporary:
                temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        return d


SaveScoresD = SaveScoresDict = SaveScoresd


def _scan(data: Mapping[Hashable, Any], key: Hashable) -> dict[str, Any]:
    import nibabel

    volume = data[key]
    affine = volume.affine.cpu().numpy() if isinstance(volume, MetaTensor) else np.eye(4)
    meta = _meta(data, key)
    return {
        "shape": list(volume.shape[1:]),
        "spacing_mm": [round(float(length), 6) for length in np.linalg.norm(affine[:3, :3], axis=0)],
        "orientation": "".join(nibabel.aff2axcodes(affine)),
        "modality": data.get("modality") or meta.get("modality") or None,
        "intensity": data.get("intensity") or meta.get("intensity") or None,
    }


def _meta(data: Mapping[Hashable, Any], key: Hashable) -> Mapping[str, Any]:
    """What the reader and the preprocessing noted; after ``Invertd`` some of it stands with the image alone."""
    meta: dict[str, Any] = {}
    for volume in (data.get("image"), data[key]):
        if isinstance(volume, MetaTensor):
            meta.update(volume.meta)
    return meta


def _warnings(data: Mapping[Hashable, Any], key: Hashable) -> list[str]:
    """Sentences from the reader (joined by line breaks in the meta data) and from the data themselves."""
    found: list[str] = []
    for source in (_meta(data, key).get("warnings"), data.get("warnings")):
        lines = source.splitlines() if isinstance(source, str) else source or []
        found += [str(line) for line in lines if str(line) and str(line) not in found]
    return found


def _plain(value: Any, name: str) -> Any:
    """Numbers, lists and dictionaries that JSON knows; refuses NaN and infinity by name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return _plain(value.tolist(), name)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise OutputError(f"{name} is {value}: not written; run in float32 (amp off) and check the weights")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
