"""The scores of a case as JSON, with the scan, the model and the software."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection

from monai_zsad.result_files import CASE_FILES
from monai_zsad.writers.base import CaseLayout, CaseWriter
from monai_zsad.writers.facts import (
    SEEDED_WARNING,
    Meta,
    familiarity,
    is_seeded,
    plain,
    require,
    scan_facts,
    software,
    warnings_of,
)
from monai_zsad.writers.files import atomic_path

__all__ = [
    "SCHEMA_VERSION",
    "SaveScoresD",
    "SaveScoresDict",
    "SaveScoresd",
    "scores",
]

SCHEMA_VERSION = 1
"""Version of the JSON file. It increases when a field is removed or changes its meaning."""


def scores(data: Mapping[Hashable, Any], key: Hashable = "pred", model: Mapping[str, Any] | None = None) -> dict:
    """The content of the JSON file of a case, as plain Python values.

    Args:
        data: with ``case``, ``volume_score``, ``slice_scores``, the map under ``key`` on the scan's grid; optional
            are ``volume_score_method``, ``unfamiliar``, ``unfamiliarity``, ``modality``, ``intensity``, ``warnings``.
        key: the anomaly map (1, X, Y, Z); its affine (RAS, mm) and shape describe the scan.
        model: the bundle's description of the network; see :func:`is_seeded`.

    Returns:
        A dictionary with ``schema_version``, ``case``, ``volume_score``, ``slice_scores``, ``scan``, ``model``,
        ``software``, ``warnings``; and ``unfamiliar`` and ``unfamiliarity`` if the data have them.

    Raises:
        OutputError: if a score is missing, or a value is not finite.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> pred = MetaTensor(torch.zeros(1, 2, 3, 4), affine=torch.diag(torch.tensor([-1.0, -1.0, 3.0, 1.0])))
        >>> result = scores({"case": "anna", "pred": pred, "volume_score": 0.5, "slice_scores": []})
        >>> result["scan"]["orientation"], result["scan"]["spacing_mm"]
        ('LPS', [1.0, 1.0, 3.0])
    """
    require(data, dict.fromkeys(("case", "volume_score", "slice_scores"), "the transform that scores slices"))
    result: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "case": data["case"]}
    result["volume_score"] = data["volume_score"]
    if data.get("volume_score_method") is not None:
        result["volume_score_method"] = data["volume_score_method"]
    result |= familiarity(data)
    result["slice_scores"] = data["slice_scores"]
    result["scan"] = scan_facts(data, key)
    result["model"] = dict(model or {})
    result["software"] = software()
    result["warnings"] = ([SEEDED_WARNING] if is_seeded(model) else []) + warnings_of(data, key)
    return plain(result, "scores")


class SaveScoresd(CaseWriter):
    """Write ``<output_dir>/<case>/scores.json``: the scores of the volume and of its slices.

    MONAI's ``ClassificationSaver`` and ``SaveClassificationd`` write one CSV row per case at the end of a run. Slice
    scores and the description of the model have no column there, and a run that is killed leaves nothing. This writer
    comes after :class:`~monai_zsad.writers.SaveCased`, because it adds the field ``anomaly_map`` to the content of
    :func:`scores`: the name of the map's file, if this file exists. The JSON does not show that a case is complete; the
    manifest does (:class:`~monai_zsad.writers.SaveManifestd`).

    Args:
        keys: key of the anomaly map, on the scan's grid. Only one key, because a case has one JSON.
        output_dir: folder of the run.
        meta: the bundle's description of its model, stored as ``model``. A function is called when a case is written,
            because the weights are loaded then.
        output_postfix: end of the JSON's name, before the extension.
        map_postfix: postfix of the map's file, as given to :class:`SaveCased`.
        map_ext: extension of the map's file.
        allow_missing_keys: do nothing if the data do not have the key.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> folder = tempfile.mkdtemp()
        >>> pred = MetaTensor(torch.zeros(1, 2, 3, 4), affine=torch.eye(4))
        >>> data = {"case": "anna", "pred": pred, "volume_score": 0.5, "slice_scores": []}
        >>> _ = SaveScoresd(keys="pred", output_dir=folder, meta={"method": "crane", "seeded": True})(data)
        >>> json.loads(Path(folder, "anna", "scores.json").read_text())["warnings"]
        ['made with seeded random weights: the values mean nothing']
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | os.PathLike[str] = "./",
        meta: Meta = None,
        output_postfix: str = CASE_FILES["scores"].postfix,
        map_postfix: str = CASE_FILES["anomaly_map"].postfix,
        map_ext: str = ".nii.gz",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, meta, allow_missing_keys)
        self.layout = CaseLayout(output_dir, output_postfix, ".json", makedirs=True)
        self.map_layout = CaseLayout(output_dir, map_postfix, map_ext)

    def write(self, data: Mapping[Hashable, Any], key: str) -> None:
        """Write the JSON for one key.

        Raises:
            OutputError: see :func:`scores`; or if the file cannot be written.
        """
        content = scores(data, key, self.model)
        case = str(content["case"])
        map_file = self.map_layout.filename(subject=case)
        content["anomaly_map"] = map_file.name if map_file.is_file() else None
        with atomic_path(self.layout.filename(subject=case)) as temporary:
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


SaveScoresD = SaveScoresDict = SaveScoresd
