"""A copy of a bundle that MONAI Label's own sample app ``monaibundle`` can serve."""

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
from monai.transforms import Compose, SelectItemsd

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.integrations.monailabel.levels import LEVELS, level_labels, level_of
from monai_zsad.integrations.monailabel.options import default_levels
from monai_zsad.workflow.bundles import read_bundle
from monai_zsad.workflow.steps import without_writers
from monai_zsad.writers import UNFAMILIAR_WARNING

__all__ = ["label_steps", "levels_of_prediction", "write_label_view"]


def label_steps(postprocessing: Compose) -> list[Any]:
    """Return a bundle's transforms as ``monaibundle`` can run them.

    The transforms that write files are left out, and the last one replaces the heat map by levels of suspicion.

    Args:
        postprocessing: the bundle's own.
    """
    # MONAI Label's writer needs entries that the bundle's selection would remove.
    steps = [step for step in without_writers(postprocessing) if not isinstance(step, SelectItemsd)]
    return [*steps, levels_of_prediction]


def levels_of_prediction(data: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the heat map by the label map of levels, and put score and candidates under ``result``.

    Args:
        data: a case with ``pred``, ``pred_labels``, ``pred_candidates`` and ``volume_score``.

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
    if data.get("unfamiliar"):
        result["warnings"] = [UNFAMILIAR_WARNING]
    return {**data, "pred": MetaTensor(torch.from_numpy(values), affine=data["pred"].affine), "result": result}


def write_label_view(bundle: Path, target: Path) -> Path:
    """Write a copy of a bundle for ``monaibundle``.

    That app would run a bundle's transforms that write files, and it does not know levels of suspicion.

    Args:
        bundle: folder of the bundle, with ``models/model.pt``.
        target: folder to make. ``monaibundle`` shows it as a segmentation model.

    Returns:
        ``target``.

    Raises:
        ConfigurationError: if ``bundle`` is not a bundle, or has no ``models/model.pt``.
        OutputError: if ``target`` exists.
    """
    config = dict(read_bundle(bundle, {"progress": False}).get())
    if not (bundle / "models" / "model.pt").is_file():
        raise ConfigurationError(f"{bundle} has no models/model.pt: write it with `python -m monai_zsad convert`")
    if target.exists():
        raise OutputError(f"{target} exists: remove it, or give another folder")
    config["imports"] = [*config.get("imports", []), "$import monai_zsad.integrations.monailabel.label_view"]
    config["bundle_postprocessing"] = config["postprocessing"]
    config["postprocessing"] = {
        "_target_": "Compose",
        "transforms": "$monai_zsad.integrations.monailabel.label_view.label_steps(@bundle_postprocessing)",
    }
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    channels = {"0": "background", **{str(value): name for name, value in LEVELS.items()}}
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = channels
    (target / "configs").mkdir(parents=True)
    shutil.copytree(bundle / "models", target / "models")
    text = yaml.safe_dump(config, sort_keys=False)
    (target / "configs" / "inference.yaml").write_text(text, encoding="utf-8")
    (target / "configs" / "metadata.json").write_text(json.dumps(metadata, indent=2), encoding="utf-8")
    return target
