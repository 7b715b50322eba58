"""A bundle as MONAI Label's own sample app ``monaibundle`` can serve it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.integrations.monailabel.levels import LEVELS, level_labels, level_of
from monai_zsad.integrations.monailabel.options import default_levels
from monai_zsad.integrations.monailabel.served import without_writers
from monai_zsad.workflow.bundles import read_bundle

__all__ = ["levels_of_prediction", "write_label_view"]


def levels_of_prediction(data: Mapping[str, Any]) -> dict[str, Any]:
    """Put the label map of levels in place of the heat map, and score and candidates under ``result``.

    Args:
        data: with ``pred``, ``pred_labels``, ``pred_candidates`` and ``volume_score``.

    Returns:
        The data; ``pred`` is (1, X, Y, Z) uint8 on the same grid.
    """
    options = default_levels()
    names = {value: name for name, value in LEVELS.items()}
    values, _ = level_labels(np.asarray(data["pred_labels"].cpu()), data["pred_candidates"], options)
    found = [
        {**candidate.as_dict(), "level": names[level_of(candidate.peak_score, options)]}
        for candidate in data["pred_candidates"]
    ]
    result = {"volume_score": float(data["volume_score"]), "candidates": found}
    return {**data, "pred": MetaTensor(torch.from_numpy(values), affine=data["pred"].affine), "result": result}


def write_label_view(bundle: Path, target: Path) -> Path:
    """Write a copy of a bundle for ``monaibundle``, which would run the transforms that write files and know no levels.

    Args:
        bundle: folder, with ``models/model.pt``.
        target: folder to make; ``monaibundle`` takes it for a segmentation model whatever its name.

    Returns:
        ``target``.

    Raises:
        ConfigurationError: if ``bundle`` is none, or has no ``models/model.pt``.
        OutputError: if ``target`` exists.
    """
    config = dict(read_bundle(bundle, {"progress": False}).get())
    if not (bundle / "models" / "model.pt").is_file():
        raise ConfigurationError(f"{bundle} has no models/model.pt: make it with `python -m monai_zsad convert`")
    if target.exists():
        raise OutputError(f"{target} exists: remove it, or give another folder")
    config["imports"] = [*config.get("imports", []), "$import monai_zsad.integrations.monailabel.label_view"]
    # What is selected there would lack what MONAI Label's writer looks for.
    steps = [step for step in without_writers(config) if step["_target_"] != "SelectItemsd"]
    last = "$monai_zsad.integrations.monailabel.label_view.levels_of_prediction"
    config["postprocessing"] = {**config["postprocessing"], "transforms": [*steps, last]}
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    channels = {"0": "background", **{str(value): name for name, value in LEVELS.items()}}
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = channels
    (target / "configs").mkdir(parents=True)
    shutil.copytree(bundle / "models", target / "models")
    text = yaml.safe_dump(config, sort_keys=False)
    (target / "configs" / "inference.yaml").write_text(text, encoding="utf-8")
    (target / "configs" / "metadata.json").write_text(json.dumps(metadata, indent=2), encoding="utf-8")
    return target
