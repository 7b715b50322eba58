"""The report of a case: one HTML page for a person, from the findings and the figures of key slices."""

from __future__ import annotations

import base64
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection

from monai_zsad.errors import ConfigurationError
from monai_zsad.result_files import CASE_FILES
from monai_zsad.writers.base import CaseLayout, CaseWriter
from monai_zsad.writers.facts import SEEDED_WARNING, Meta, require
from monai_zsad.writers.figures.drawing import suspicion_colours
from monai_zsad.writers.figures.key_slices import KeySlices, key_slices
from monai_zsad.writers.figures.views import PLANES, make_view, on_grid
from monai_zsad.writers.files import atomic_path
from monai_zsad.writers.pages.values import NOTHING, TIMES, decimal, render, shown
from monai_zsad.writers.records.findings import findings

__all__ = ["SaveReportD", "SaveReportDict", "SaveReportd", "report"]

# Columns of the table of candidates, after the candidate itself.
_COLUMNS = ("peak score", "mean score", "p-value", "volume, mm³", "centre RAS, mm", "centre LPS, mm", "slices")


def report(
    data: Mapping[Hashable, Any],
    content: Mapping[str, Any],
    key: str = "pred",
    image_key: str = "image",
    plane: str | None = None,
    pictures: int = 6,
    limits: tuple[float, float] | None = None,
) -> str:
    """The report of a case as one HTML page, which loads no other files: style and figures (PNG) are part of it.

    Args:
        data: with the scan, the map and the candidates' labels under ``<key>_labels``.
        content: result of :func:`~monai_zsad.writers.findings` for the same data.
        key: the anomaly map (1, X, Y, Z), affine in RAS, mm.
        image_key: the scan (C, X, Y, Z), the first channel is shown. If it is on another grid, as after the
            preprocessing, it is resampled to the grid of the map.
        plane: ``"axial"``, ``"coronal"`` or ``"sagittal"``; None: the plane of the scan's own slices.
        pictures: maximum number of key slices.
        limits: map values where the colours begin and end; None: as in :func:`~monai_zsad.writers.save_preview`.

    Returns:
        The page's HTML.

    Raises:
        ConfigurationError: an unknown plane, or labels on another grid.
        OutputError: if something is missing, or the map is not finite.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> pred = MetaTensor(torch.rand(1, 12, 12, 5), affine=torch.eye(4))
        >>> data = {"case": "anna", "pred": pred, "image": pred, "volume_score": 0.5}
        >>> data = {**data, "pred_labels": torch.zeros(1, 12, 12, 5), "pred_candidates": []}
        >>> page = report(data, findings(data), pictures=1)
        >>> "<h1>anna</h1>" in page, "http:" in page
        (True, False)
    """
    require(data, {image_key: "what loads the scan", f"{key}_labels": "LesionCandidatesd"})
    view = make_view(on_grid(data[image_key], data[key]), data[key], None, plane, data[f"{key}_labels"])
    return _page(content, key_slices(view, content["candidates"], pictures, limits))


class SaveReportd(CaseWriter):
    """Write ``<output_dir>/<case>/<case>_report.html``, by :func:`findings` and :func:`report`.

    MONAI does not write documents. Its ``blend_images`` and ``matshow3d`` make images without letters of the sides,
    scale or numbers. The transform comes after ``LesionCandidatesd`` and before
    :class:`~monai_zsad.writers.SaveFindingsd`.

    Args:
        keys: the anomaly map, on the scan's grid.
        output_dir: folder of the run.
        meta: the bundle's description of its model, as for :class:`~monai_zsad.writers.SaveScoresd`; random weights get
            a red warning.
        settings: see :func:`~monai_zsad.writers.findings`.
        image_key: see :func:`report`.
        plane: see :func:`report`.
        pictures: see :func:`report`.
        limits: see :func:`report`.
        output_postfix: end of the page's file name, before the extension.
        allow_missing_keys: do nothing if the data do not have the key.

    Raises:
        ConfigurationError: an unknown plane, or ``pictures`` below 1.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> pred = MetaTensor(torch.rand(1, 12, 12, 5), affine=torch.eye(4))
        >>> data = {"case": "anna", "pred": pred, "image": pred, "volume_score": 0.5}
        >>> data = {**data, "pred_labels": torch.zeros(1, 12, 12, 5), "pred_candidates": []}
        >>> folder = tempfile.mkdtemp()
        >>> _ = SaveReportd(output_dir=folder, pictures=1)(data)
        >>> [file.name for file in Path(folder, "anna").iterdir()]
        ['anna_report.html']
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        output_dir: str | os.PathLike[str] = "./",
        meta: Meta = None,
        settings: Mapping[str, Any] | None = None,
        image_key: str = "image",
        plane: str | None = None,
        pictures: int = 6,
        limits: tuple[float, float] | None = None,
        output_postfix: str = CASE_FILES["report"].postfix,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, meta, allow_missing_keys)
        if plane is not None and plane not in PLANES:
            raise ConfigurationError(f"plane is {plane!r}; give one of {', '.join(PLANES)}, or None for the scan's own")
        if isinstance(pictures, bool) or not isinstance(pictures, int) or pictures < 1:
            raise ConfigurationError(f"pictures={pictures!r} must be a whole number from 1")
        self.settings = settings
        self.image_key = image_key
        self.plane = plane
        self.pictures = pictures
        self.limits = limits
        self.layout = CaseLayout(output_dir, output_postfix, ".html", makedirs=True)

    def write(self, data: Mapping[Hashable, Any], key: str) -> None:
        """Write the page for one key.

        Raises:
            OutputError: see :func:`findings` and :func:`report`; or if the file cannot be written.
        """
        content = findings(data, key, self.model, self.settings)
        html = report(data, content, key, self.image_key, self.plane, self.pictures, self.limits)
        with atomic_path(self.layout.filename(subject=content["case"])) as temporary:
            temporary.write_text(html, encoding="utf-8")


SaveReportD = SaveReportDict = SaveReportd


def _page(content: Mapping[str, Any], slices: KeySlices) -> str:
    candidates, warnings = content["candidates"], content["warnings"]
    colours = suspicion_colours([found["peak_score"] for found in candidates])
    values = {
        **{name: content[name] for name in ("case", "settings", "calibration", "model", "software")},
        "alarm": f"NOT A RESULT: {SEEDED_WARNING}" if SEEDED_WARNING in warnings else "",
        "tiles": _tiles(content),
        "warnings": [warning for warning in warnings if warning != SEEDED_WARNING],
        "columns": _COLUMNS,
        "candidates": [_candidate(*pair) for pair in zip(candidates, colours, strict=True)],
        "calibrated": any(found["p_value"] is not None for found in candidates),
        "pictures": _pictures(slices),
        "grey": [f"{value:.4g}" for value in slices.grey or ()],
        "limits": [decimal(value) for value in slices.limits],
        "intensity": content["scan"]["intensity"],
        "scan": _scan(content["scan"]),
    }
    return render("report.html.j2", values)


def _tiles(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The values at the top of the page, with their names."""
    candidates = content["candidates"]
    method, p_value = content["volume_score_method"], content["volume_p_value"]
    volume = sum(found["volume_mm3"] for found in candidates) / 1000
    return [
        (decimal(content["volume_score"]), "volume score" + (f" ({method})" if method else "")),
        *([] if p_value is None else [(decimal(p_value), "p-value of the scan")]),
        (str(len(candidates)), "lesion candidate" if len(candidates) == 1 else "lesion candidates"),
        (decimal(candidates[0]["peak_score"]) if candidates else NOTHING, "highest peak score"),
        (f"{volume:.2f} ml" if candidates else NOTHING, "volume of all candidates"),
    ]


def _candidate(found: Mapping[str, Any], colour: Sequence[float]) -> dict[str, Any]:
    first, last = found["slice_range"]
    volume = found["volume_mm3"]
    return {
        "id": found["id"],
        "colour": ", ".join(str(round(255 * part)) for part in colour),
        "cells": [
            decimal(found["peak_score"]),
            decimal(found["mean_score"]),
            decimal(found["p_value"]),
            decimal(volume, 0 if volume >= 10 else 2),
            _position(found["centroid_ras_mm"]),
            _position(found["centroid_lps_mm"]),
            str(first) if first == last else f"{first}{NOTHING}{last}",
        ],
    }


def _position(point: Sequence[float]) -> str:
    # Adding 0.0 turns -0.0 into 0.0.
    return ", ".join(f"{round(value, 1) + 0.0:.1f}" for value in point)


def _pictures(slices: KeySlices) -> list[tuple[str, str]]:
    """Caption and PNG (base64) of each key slice."""
    found = []
    for (caption, png), ids in zip(slices.pictures, slices.candidates, strict=True):
        shows = f"Candidate {ids[0]}" if len(ids) == 1 else f"Candidates {', '.join(map(str, ids))}"
        found.append((f"{shows if ids else 'No candidate'}: {caption}", base64.b64encode(png).decode("ascii")))
    return found


def _scan(scan: Mapping[str, Any]) -> dict[str, Any]:
    shape, spacing = scan["shape"], scan["spacing_mm"]
    return {
        "modality": scan["modality"],
        "intensity": scan["intensity"],
        "voxels": TIMES.join(map(str, shape)),
        "spacing, mm": TIMES.join(map(shown, spacing)),
        "extent, mm": TIMES.join(f"{n * length:.1f}" for n, length in zip(shape, spacing, strict=True)),
        "axes run to": scan["orientation"],
        "first voxel RAS, mm": _position([row[3] for row in scan["affine_ras"][:3]]),
    }
