"""The lesion candidates of a case as JSON and CSV, for programs."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.config import KeysCollection

from monai_zsad.errors import OutputError
from monai_zsad.result_files import CASE_FILES
from monai_zsad.writers.base import CaseLayout, CaseWriter
from monai_zsad.writers.facts import (
    SEEDED_WARNING,
    Meta,
    familiarity,
    grid_affine,
    is_seeded,
    plain,
    require,
    scan_facts,
    software,
    warnings_of,
)
from monai_zsad.writers.files import atomic_path

__all__ = [
    "FINDINGS_COLUMNS",
    "FINDINGS_SCHEMA_VERSION",
    "SaveFindingsD",
    "SaveFindingsDict",
    "SaveFindingsd",
    "findings",
    "findings_rows",
    "findings_schema",
]

FINDINGS_SCHEMA_VERSION = 1
"""Version of the JSON file. It increases when a field is removed or changes its meaning."""

_RUN = ("bundle", "prompt_set", "anatomy", "modality", "states")
# The option's value for general prompts, which names no modality.
_GENERAL = "any"
_SETTINGS = ("threshold", "method", "low", "min_volume_mm3", "border_mm", "max_candidates")

# Columns of the CSV for each field; a field that is a list has several columns.
_COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id",),
    "p_value": ("p_value",),
    "peak_score": ("peak_score",),
    "mean_score": ("mean_score",),
    "volume_mm3": ("volume_mm3",),
    "voxels": ("voxels",),
    "equivalent_diameter_mm": ("equivalent_diameter_mm",),
    "elongation": ("elongation",),
    "sphericity": ("sphericity",),
    **{
        f"{point}_{space}_mm": tuple(f"{point}_{space}_{axis}_mm" for axis in "xyz")
        for point in ("centroid", "peak")
        for space in ("ras", "lps")
    },
    **{f"{point}_voxel": tuple(f"{point}_voxel_{axis}" for axis in "ijk") for point in ("centroid", "peak")},
    "bounding_box": tuple(f"box_{axis}_{end}_voxel" for axis in "ijk" for end in ("start", "stop")),
    "slice_range": ("first_slice", "last_slice"),
}

FINDINGS_COLUMNS = ("case", *(name for names in _COLUMNS.values() for name in names))
"""Columns of the CSV, in order; new columns are appended."""


def findings_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of ``findings.json``; its descriptions document the fields.

    New fields do not change the version.

    Example:
        >>> findings_schema()["properties"]["schema_version"]["const"] == FINDINGS_SCHEMA_VERSION
        True
    """
    from importlib.resources import files

    text = (files("monai_zsad") / "writers" / "records" / "findings.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def findings(
    data: Mapping[Hashable, Any],
    key: str = "pred",
    model: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    calibration: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The findings of a case as plain Python values; :func:`findings_schema` describes them.

    Args:
        data: with ``case``, ``volume_score``, the map under ``key`` on the scan's grid, and the candidates under
            ``<key>_candidates`` as ``LesionCandidatesd`` adds them, most suspicious first. Optional keys are
            those of ``CalibratedCandidatesd`` (``<key>_p_values``, ``volume_p_value``, ``calibration``),
            ``volume_score_method``, ``unfamiliar``, ``unfamiliarity``, ``modality``, ``intensity`` and ``warnings``. No
            other data or meta data are used.
        key: the anomaly map (1, X, Y, Z); its affine (RAS, mm) and shape describe the scan.
        model: the bundle's description of the network; see :func:`~monai_zsad.writers.is_seeded`.
        settings: settings of the search for candidates, by the names of the arguments of ``LesionCandidates``.
        calibration: description of the calibration; None takes ``calibration`` of the data.
        run: what a reader is told about the run, by name: ``bundle``, ``prompt_set``, ``anatomy``, ``modality`` and
            ``states`` are written. A scan whose modality is unknown gets this ``modality``.

    Returns:
        A dictionary of numbers, texts, lists and dictionaries; positions in mm (RAS and LPS) and in voxels.

    Raises:
        OutputError: if something is missing, p-values and candidates differ in number, or a value is not finite.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> pred = MetaTensor(torch.zeros(1, 2, 3, 4), affine=torch.eye(4))
        >>> result = findings({"case": "anna", "pred": pred, "volume_score": 0.5, "pred_candidates": []})
        >>> result["scan"]["orientation"], result["candidates"], result["settings"]["threshold"]
        ('RAS', [], None)
    """
    require(data, dict.fromkeys(("case", "volume_score"), "the transform that scores slices"))
    require(data, {f"{key}_candidates": "LesionCandidatesd"})
    candidates = list(data[f"{key}_candidates"])
    p_values = data.get(f"{key}_p_values")
    p_values = [None] * len(candidates) if p_values is None else list(p_values)
    if len(p_values) != len(candidates):
        raise OutputError(
            f"{key}_p_values has {len(p_values)} values for {len(candidates)} candidates: give one for each, in order"
        )
    calibration = data.get("calibration") if calibration is None else calibration
    scan = scan_facts(data, key)
    told = {name: (run or {}).get(name) for name in _RUN}
    is_told = not scan["modality"] and told["modality"] not in (None, _GENERAL)
    scan |= {"modality": told["modality"], "modality_source": "option"} if is_told else {"modality_source": None}
    scan["affine_ras"] = grid_affine(data[key]).round(9)
    result: dict[str, Any] = {
        "schema": "monai-zsad/findings",
        "schema_version": FINDINGS_SCHEMA_VERSION,
        "case": str(data["case"]),
        "scan": scan,
        "volume_score": data["volume_score"],
        "volume_score_method": data.get("volume_score_method"),
        "volume_p_value": data.get("volume_p_value"),
        **familiarity(data),
        "settings": {**dict.fromkeys(_SETTINGS), **(settings or {})},
        "candidates": [
            {**found.as_dict(), "p_value": p_value} for found, p_value in zip(candidates, p_values, strict=True)
        ],
        "calibration": None if calibration is None else dict(calibration),
        "model": dict(model or {}),
        "run": told,
        "software": software(),
        "warnings": ([SEEDED_WARNING] if is_seeded(model) else []) + warnings_of(data, key),
        "files": {},
    }
    return plain(result, "findings")


def findings_rows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per candidate with the columns :data:`FINDINGS_COLUMNS`, from the content of :func:`findings`.

    Args:
        content: result of :func:`findings`.

    Returns:
        The rows, most suspicious first.

    Example:
        >>> findings_rows({"case": "anna", "candidates": []})
        []
    """
    rows = []
    for found in content["candidates"]:
        row: dict[str, Any] = {"case": content["case"]}
        for field, names in _COLUMNS.items():
            row.update(zip(names, _flat(found[field]), strict=True))
        rows.append(row)
    return rows


def _flat(value: Any) -> list[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return [value]
    return [item for part in value for item in _flat(part)]


class SaveFindingsd(CaseWriter):
    """Write ``<output_dir>/<case>/findings.csv`` and then ``findings.json``, by :func:`findings`.

    MONAI's ``CSVSaver`` and ``SaveClassificationd`` write one row per case at the end of a run. Here, a case has any
    number of candidates, and its files must exist even if the run is killed at the next case.

    This writer comes after the writers of the other files: ``files`` in the JSON names those that exist.

    Args:
        keys: key of the anomaly map, on the scan's grid. Only one key, because a case has one JSON.
        output_dir: folder of the run.
        meta: the bundle's description of its model, as for :class:`~monai_zsad.writers.SaveScoresd`.
        settings: see :func:`findings`.
        run: see :func:`findings`.
        output_postfix: end of the names of JSON and CSV, before the extension.
        files: more files for ``files`` in the JSON: kind and file name after ``<case>_``, such as
            ``{"slices": "slices.json"}``; with None instead of a file name, a standard file is left out.
        allow_missing_keys: do nothing if the data do not have the key.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> folder = tempfile.mkdtemp()
        >>> pred = MetaTensor(torch.zeros(1, 2, 3, 4), affine=torch.eye(4))
        >>> data = {"case": "anna", "pred": pred, "volume_score": 0.5, "pred_candidates": []}
        >>> _ = SaveFindingsd(output_dir=folder, meta={"method": "crane"})(data)
        >>> json.loads(Path(folder, "anna", "findings.json").read_text())["files"]
        {'table': 'findings.csv'}
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        output_dir: str | os.PathLike[str] = "./",
        meta: Meta = None,
        settings: Mapping[str, Any] | None = None,
        run: Mapping[str, Any] | None = None,
        output_postfix: str = CASE_FILES["findings"].postfix,
        files: Mapping[str, str | None] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, meta, allow_missing_keys)
        self.settings = settings
        self.run = run
        self.layout = CaseLayout(output_dir, output_postfix, ".json", makedirs=True)
        self.table_layout = CaseLayout(output_dir, output_postfix, ".csv", makedirs=True)
        known = {kind: file.name for kind, file in CASE_FILES.items() if file.in_findings}
        self.files = {**known, "table": f"{output_postfix}.csv", **(files or {})}

    def write(self, data: Mapping[Hashable, Any], key: str) -> None:
        """Write both files for one key.

        Raises:
            OutputError: see :func:`findings`; or if a file cannot be written.
        """
        content = findings(data, key, self.model, self.settings, run=self.run)
        case = content["case"]
        with (
            atomic_path(self.table_layout.filename(subject=case)) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as stream,
        ):
            table = csv.DictWriter(stream, FINDINGS_COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(findings_rows(content))
        target = self.layout.filename(subject=case)
        content["files"] = _existing(target.parent, self.files)
        with atomic_path(target) as temporary:
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


SaveFindingsD = SaveFindingsDict = SaveFindingsd


def _existing(folder: Path, names: Mapping[str, str | None]) -> dict[str, str]:
    return {kind: name for kind, name in names.items() if name is not None and (folder / name).is_file()}
