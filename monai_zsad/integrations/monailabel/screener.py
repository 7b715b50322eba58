"""One request: a bundle screens a scan and returns levels of suspicion, heat map and findings."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_zsad.data import find_scans, find_user_error
from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.integrations.monailabel.levels import LEVELS, level_labels, level_of
from monai_zsad.integrations.monailabel.options import RequestOptions, read_options
from monai_zsad.integrations.monailabel.served import ServedBundle
from monai_zsad.writers import findings

__all__ = ["Screened", "screen_image", "write_volume"]

EXTENSIONS = (".nii.gz", ".nii", ".nrrd")
_TABLE = ("id", "centroid_ras_mm", "volume_mm3", "peak_score", "mean_score", "slice_range")


@dataclass(frozen=True)
class Screened:
    """The result of a request.

    Attributes:
        heat_map: (X, Y, Z) float32 in [0, 1], on the scan's grid.
        labels: (X, Y, Z), ids of candidates, 0 for the background.
        candidates: each ``LesionCandidate``, the most suspicious one first.
        affine: (4, 4), from index to mm in RAS.
        options: options of the request.
        params: plain values for the client.
    """

    heat_map: np.ndarray
    labels: np.ndarray
    candidates: list[Any]
    affine: np.ndarray
    options: RequestOptions
    params: dict[str, Any]

    def levels(self, *, compact: bool = False) -> tuple[np.ndarray, dict[str, int]]:
        """Return the label map of levels and the value of each level, from :func:`level_labels`."""
        return level_labels(self.labels, self.candidates, self.options, compact=compact)


def screen_image(
    bundle: ServedBundle,
    image: str | Path,
    request: Mapping[str, Any] | None = None,
    *,
    case: str = "image",
    device: str | None = None,
) -> Screened:
    """Screen one scan. Several threads may call this function at the same time.

    Args:
        bundle: the bundle that screens.
        image: a volume file or a folder with one DICOM series.
        request: the client's parameters; see :func:`~monai_zsad.integrations.monailabel.options.read_options`.
        case: name of the case in the findings.
        device: device of the network; ``None`` for the bundle's default.

    Raises:
        ConfigurationError: if an option cannot be used.
        InputError: if the scan cannot be read.
        WeightsError: if the weights are missing or do not fit.
    """
    begin = time.perf_counter()
    options = read_options(request or {}, bundle.panel)
    device = device or bundle.default_device
    try:
        steps = bundle.steps(options, device)
        built = time.perf_counter()
        data = steps.preprocessing({**_record(Path(image)), "case": case})
        loaded = time.perf_counter()
        with torch.no_grad():
            batch = steps.inferer(data["image"][None].to(device), steps.network)
        data["pred"] = batch[0]
        computed = time.perf_counter()
        data = steps.postprocessing(data)
    except RuntimeError as error:
        # MONAI wraps the errors of transforms and configuration items in its own.
        if found := find_user_error(error):
            raise found from error
        raise
    content = findings(data, model=steps.describe(), settings=steps.settings)
    params = _params(bundle, content, options)
    params["latencies"] = {
        "model": round(built - begin, 3),
        "pre": round(loaded - built, 3),
        "infer": round(computed - loaded, 3),
        "post": round(time.perf_counter() - computed, 3),
        "total": round(time.perf_counter() - begin, 3),
    }
    return Screened(
        heat_map=data["pred"][0].cpu().numpy().astype(np.float32),
        labels=np.asarray(data["pred_labels"][0].cpu()),
        candidates=list(data["pred_candidates"]),
        affine=np.asarray(content["scan"]["affine_ras"]),
        options=options,
        params=params,
    )


def _record(image: Path) -> dict[str, Any]:
    """Return the input of the reader: a file, or the files of the one series in a folder."""
    if not image.is_dir():
        return {"image": str(image)}
    records = find_scans(image)
    if len(records) != 1:
        raise InputError(f"{image} holds {len(records)} series: give a folder with one series")
    return dict(records[0])


def _params(bundle: ServedBundle, content: Mapping[str, Any], options: RequestOptions) -> dict[str, Any]:
    names = {value: name for name, value in LEVELS.items()}
    settings, scan, model = content["settings"], content["scan"], content["model"]
    return {
        "volume_score": content["volume_score"],
        "volume_score_method": content["volume_score_method"],
        "candidates": [
            {**{key: found[key] for key in _TABLE}, "level": names[level_of(found["peak_score"], options)]}
            for found in content["candidates"]
        ],
        "thresholds": {
            "candidate": settings["threshold"],
            "method": settings["method"],
            "min_volume_mm3": settings["min_volume_mm3"],
            "moderate": options.level_moderate,
            "high": options.level_high,
        },
        "model": {
            "name": bundle.name,
            "version": bundle.metadata.get("version"),
            **{key: model[key] for key in ("method", "prompts", "weights") if key in model},
        },
        "prompt_set": options.overrides.get("prompt_set"),
        "options": dict(options.overrides),
        "scan": {key: scan[key] for key in ("shape", "spacing_mm", "orientation", "modality", "intensity")},
        "warnings": content["warnings"],
    }


def write_volume(values: np.ndarray, affine: np.ndarray, path: Path, *, compress: bool = False) -> Path:
    """Write a volume with MONAI's writers.

    Args:
        values: (X, Y, Z).
        affine: (4, 4), from index to mm in RAS.
        path: file to write; its name ends in ``.nii.gz``, ``.nii`` or ``.nrrd``.
        compress: compress an ``.nrrd`` file. OHIF reads only files without compression.

    Raises:
        ConfigurationError: for another ending.
    """
    from monai.data import ITKWriter, NibabelWriter

    if not path.name.endswith(EXTENSIONS):
        raise ConfigurationError(f"result_extension={path.suffix!r} is not supported: choose {', '.join(EXTENSIONS)}")
    nrrd = path.name.endswith(".nrrd")
    writer = (ITKWriter if nrrd else NibabelWriter)(output_dtype=values.dtype)
    # MONAI's writers drop the last axis of a volume with one slice, unless a channel axis follows it.
    writer.set_data_array(values[..., None], channel_dim=-1, squeeze_end_dims=False)
    writer.set_metadata({"affine": affine, "original_affine": affine, "spatial_shape": values.shape}, resample=False)
    if nrrd:
        writer.write(path, compression=compress)
    else:
        writer.data_obj = writer.data_obj[..., 0]
        writer.write(path)
    return path
