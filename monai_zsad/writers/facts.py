"""What every record of a case says: its scan, what was noticed, by which software."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from monai_zsad._version import __version__
from monai_zsad.errors import OutputError

__all__: list[str] = []


def require(data: Mapping[Hashable, Any], needed: Mapping[str, str]) -> None:
    """Refuse data that lack something; ``needed`` says for each key which transform adds it."""
    for name, source in needed.items():
        if data.get(name) is None:
            raise OutputError(f"no {name!r} in the data: put {source} before the writers")


def grid_affine(volume: Any) -> np.ndarray:
    """(4, 4) float64, index to mm in RAS; the unit matrix where the volume has none."""
    return volume.affine.cpu().numpy().astype(np.float64) if isinstance(volume, MetaTensor) else np.eye(4)


def scan_facts(data: Mapping[Hashable, Any], key: Hashable) -> dict[str, Any]:
    """Grid of the map under ``key`` (mm, RAS letters), modality, and what was done to the intensities."""
    import nibabel

    volume = data[key]
    affine = grid_affine(volume)
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


def warnings_of(data: Mapping[Hashable, Any], key: Hashable) -> list[str]:
    """Sentences from the reader (joined by line breaks in the meta data) and from the data themselves."""
    found: list[str] = []
    for source in (_meta(data, key).get("warnings"), data.get("warnings")):
        lines = source.splitlines() if isinstance(source, str) else source or []
        found += [str(line) for line in lines if str(line) and str(line) not in found]
    return found


def software() -> dict[str, str]:
    """Versions of what made a result."""
    import monai

    return {"monai_zsad": __version__, "monai": monai.__version__, "torch": torch.__version__}


def plain(value: Any, name: str) -> Any:
    """Numbers, lists and dictionaries that JSON knows; refuses NaN and infinity by name."""
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return plain(value.tolist(), name)
    if isinstance(value, list | tuple):
        return [plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise OutputError(f"{name} is {value}: not written; run in float32 (amp off) and check the weights")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
