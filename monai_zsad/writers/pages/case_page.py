"""The values of a case's report, as its template shows them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from monai_zsad.writers.facts import SEEDED_WARNING, UNFAMILIAR_WARNING
from monai_zsad.writers.figures.drawing import suspicion_colours
from monai_zsad.writers.figures.key_slices import KeySlices
from monai_zsad.writers.figures.thumbnails import thumbnails
from monai_zsad.writers.figures.views import PLANES, View
from monai_zsad.writers.pages.values import NOTHING, TIMES, decimal, render, shown
from monai_zsad.writers.pages.viewer import viewer_installed

__all__: list[str] = []

# Warnings that stand above the result, not among the others.
_ALARMS = (SEEDED_WARNING, UNFAMILIAR_WARNING)
# Candidates that are shown at once; the others are folded.
_SHOWN = 5
# Smallest width of the images of a candidate.
_FIELD_MM = 120.0
_AXES = ("RL", "AP", "SI")
_NO_VIEWER = "This page shows still images only. With `pip install ipyniivue`, reports get a viewer to scroll through."


class Viewer(NamedTuple):
    """The part of the page to scroll through the scan (empty if its program is not installed), and what it may load."""

    section: str
    policy: str


def case_page(
    content: Mapping[str, Any], view: View, slices: KeySlices, viewer: Viewer | None, run: Mapping[str, Any]
) -> str:
    """The page of a case.

    Args:
        content: its findings.
        view: scan, map and labels.
        slices: figures of its key slices.
        viewer: to scroll through the scan; None for a page without it.
        run: what the page says about the run, by name; ``measured`` is a sentence about the model.

    Returns:
        The HTML.
    """
    candidates, warnings = content["candidates"], content["warnings"]
    colours = suspicion_colours([found["peak_score"] for found in candidates])
    scan = content["scan"]
    values = {
        **{name: content[name] for name in ("case", "settings", "calibration", "model", "software")},
        "alarm": f"NOT A RESULT: {SEEDED_WARNING}" if SEEDED_WARNING in warnings else "",
        "unfamiliar": _unfamiliar(content),
        "tiles": _tiles(content),
        "measured": run.get("measured") or "",
        "run": {name: value for name, value in run.items() if name != "measured" and value not in (None, [])},
        "warnings": [warning for warning in warnings if warning not in _ALARMS],
        "shown_open": _SHOWN,
        "candidates": [
            {
                **_candidate(found, scan),
                "colour": ", ".join(str(round(255 * part)) for part in colour),
                "images": _images(view, found, max(_lengths(found, scan)), slices, number < _SHOWN),
            }
            for number, (found, colour) in enumerate(zip(candidates, colours, strict=True))
        ],
        "sided": view.colour is None,
        "calibrated": any(found["p_value"] is not None for found in candidates),
        "pictures": _pictures(slices),
        "grey": [f"{value:.4g}" for value in slices.grey or ()],
        "limits": [decimal(value) for value in slices.limits],
        "intensity": scan["intensity"],
        "scan": _scan(scan),
        "viewer": "" if viewer is None else viewer.section,
        "hint": "" if viewer is None or viewer.section or viewer_installed() else _NO_VIEWER,
    }
    return render("report.html.j2", values | ({"policy": viewer.policy} if values["viewer"] and viewer else {}))


def _tiles(content: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The values at the top of the page, with their names, and the part of the page that says more."""
    candidates = content["candidates"]
    method, p_value = content["volume_score_method"], content["volume_p_value"]
    volume = sum(found["volume_mm3"] for found in candidates) / 1000
    warnings = sum(warning not in _ALARMS for warning in content["warnings"])
    return [
        (decimal(content["volume_score"]), "volume score" + (f" ({method})" if method else ""), ""),
        *([] if p_value is None else [(decimal(p_value), "p-value of the scan", "")]),
        (str(len(candidates)), "lesion candidate" if len(candidates) == 1 else "lesion candidates", "candidates"),
        (decimal(candidates[0]["peak_score"]) if candidates else NOTHING, "highest peak score", ""),
        (f"{volume:.2f} ml" if candidates else NOTHING, "volume of all candidates", ""),
        *([(str(warnings), "warning" if warnings == 1 else "warnings", "warnings")] if warnings else []),
    ]


def _unfamiliar(content: Mapping[str, Any]) -> tuple[str, str] | None:
    """Heading and explanation for a scan that is unlike the training data; None for others."""
    if not content.get("unfamiliar"):
        return None
    return (
        f"{UNFAMILIAR_WARNING.capitalize()}.",
        "This scan is unlike the scans that the model was trained on: the median distance of its slices to them is "
        f"{decimal(content['unfamiliarity'], 1)} times the limit. A high score below is no sign of disease, and a low "
        "score is no sign of health.",
    )


def _candidate(found: Mapping[str, Any], scan: Mapping[str, Any]) -> dict[str, Any]:
    first, last = found["slice_range"]
    volume = found["volume_mm3"]
    return {
        "id": found["id"],
        "at": ",".join(f"{value:g}" for value in found["peak_ras_mm"]),
        "peak_score": decimal(found["peak_score"]),
        "mean_score": decimal(found["mean_score"]),
        "p_value": decimal(found["p_value"]),
        "size": TIMES.join(decimal(length, 0 if length >= 10 else 1) for length in _lengths(found, scan)),
        "volume": decimal(volume, 0 if volume >= 10 else 2),
        "slices": str(first) if first == last else f"{first}{NOTHING}{last}",
        **{
            point: {space: _position(found[f"{name}_{space}_mm"]) for space in ("ras", "lps")}
            for point, name in (("peak", "peak"), ("centre", "centroid"))
        },
    }


def _lengths(found: Mapping[str, Any], scan: Mapping[str, Any]) -> list[float]:
    """Extent along the axes nearest to right-left, anterior-posterior, superior-inferior, mm."""
    box = zip(found["bounding_box"], scan["spacing_mm"], scan["orientation"], strict=True)
    lengths = {letter: (stop - start) * spacing for (start, stop), spacing, letter in box}
    return [next(length for letter, length in lengths.items() if letter in ends) for ends in _AXES]


def _images(
    view: View, found: Mapping[str, Any], extent: float, slices: KeySlices, is_open: bool
) -> list[tuple[str, str, str]]:
    """Plane, letter of the left side, and image of a candidate; one small image of a folded candidate."""
    grey = slices.grey or (0.0, 1.0)
    field = max(_FIELD_MM, 2 * extent)
    if is_open:
        images = thumbnails(view, found, field, grey, slices.limits)
    else:
        own = next(plane for plane, axis in PLANES.items() if axis == view.axis)
        images = thumbnails(view, found, field, grey, slices.limits, 96, [own])
    return [
        (plane, "" if view.colour is not None else "A" if plane == "sagittal" else "R", source)
        for plane, source in images
    ]


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
