"""The report of a case as one HTML page, from its findings and figures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from monai_zsad.writers.drawing import suspicion_colours
from monai_zsad.writers.facts import SEEDED_WARNING
from monai_zsad.writers.key_slices import KeySlices
from monai_zsad.writers.pages.values import NOTHING, TIMES, decimal, render, shown

__all__ = ["report_page"]

# Columns of the table of candidates, after the candidate itself.
_COLUMNS = ("peak score", "mean score", "p-value", "volume, mm³", "centre RAS, mm", "centre LPS, mm", "slices")


def report_page(content: Mapping[str, Any], slices: KeySlices) -> str:
    """The page.

    Args:
        content: of :func:`~monai_zsad.writers.findings`.
        slices: figures of the key slices.

    Returns:
        The HTML.
    """
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
        "grey": [f"{value:.4g}" for value in slices.grey],
        "limits": [decimal(value) for value in slices.limits],
        "intensity": content["scan"]["intensity"],
        "scan": _scan(content["scan"]),
    }
    return render("report.html.j2", values)


def _tiles(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Values that a reader sees first, with their names."""
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
