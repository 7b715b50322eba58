"""The report of a case as one HTML page, from its findings and pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from monai_zsad.writers.drawing import suspicion_colours
from monai_zsad.writers.facts import SEEDED_WARNING
from monai_zsad.writers.key_slices import KeySlices
from monai_zsad.writers.page import NOTHING, TIMES, alarm, decimal, facts, heading, page, section, shown, table, tile

__all__: list[str] = []

_COLUMNS = (
    "candidate",
    "peak score",
    "mean score",
    "p-value",
    "volume, mm³",
    "centre RAS, mm",
    "centre LPS, mm",
    "slices",
)


def report_page(content: Mapping[str, Any], slices: KeySlices) -> str:
    """The page.

    Args:
        content: of :func:`~monai_zsad.writers.findings`.
        slices: pictures of the key slices.
    """
    candidates = content["candidates"]
    body = [heading("Anomaly screening report", content["case"])]
    if SEEDED_WARNING in content["warnings"]:
        body.append(alarm(f"NOT A RESULT: {SEEDED_WARNING}"))
    body += [_tiles(content), _warnings(content["warnings"]), _candidates(candidates), _pictures(content, slices)]
    settings, calibration = content["settings"], content["calibration"]
    parts = [
        section("Scan", facts(_scan(content["scan"]))),
        section("Search for candidates", facts(settings), *([_calibration(calibration)] if calibration else [])),
        section("Model", facts(content["model"]) if content["model"] else f"<p>{NOTHING}</p>"),
        section("Software", facts(content["software"])),
    ]
    body.append('<div class="columns">' + "\n".join(parts) + "</div>")
    body.append(
        "<footer>RAS: x to the right, y to anterior, z to superior. LPS: x to the left, y to posterior, z to superior. "
        "Slices count from 0 along the third axis of the scan's file.</footer>"
    )
    return page(f"{content['case']}: anomaly screening report", body)


def _tiles(content: Mapping[str, Any]) -> str:
    candidates = content["candidates"]
    method, p_value = content["volume_score_method"], content["volume_p_value"]
    words = "volume score" + (f" ({method})" if method else "")
    tiles = [
        tile(decimal(content["volume_score"]), words),
        tile(str(len(candidates)), "lesion candidate" if len(candidates) == 1 else "lesion candidates"),
        tile(decimal(candidates[0]["peak_score"]) if candidates else NOTHING, "highest peak score"),
        tile(
            f"{sum(found['volume_mm3'] for found in candidates) / 1000:.2f} ml" if candidates else NOTHING,
            "volume of all candidates",
        ),
    ]
    if p_value is not None:
        tiles.insert(1, tile(decimal(p_value), "p-value of the scan"))
    return '<div class="tiles">' + "\n".join(tiles) + "</div>"


def _warnings(warnings: Sequence[str]) -> str:
    others = [warning for warning in warnings if warning != SEEDED_WARNING]
    if not others:
        return ""
    return section("Warnings", "<ul>", *(f"<li>{escape(warning)}</li>" for warning in others), "</ul>")


def _candidates(candidates: Sequence[Mapping[str, Any]]) -> str:
    if not candidates:
        return section("Lesion candidates", "<p>None above the threshold. This does not mean that there is none.</p>")
    colours = suspicion_colours([found["peak_score"] for found in candidates])
    rows = []
    for found, colour in zip(candidates, colours, strict=True):
        shade = ", ".join(str(round(255 * part)) for part in colour)
        first, last = found["slice_range"]
        rows.append(
            [
                f'<span class="swatch" style="background: rgb({shade})"></span>{found["id"]}',
                decimal(found["peak_score"]),
                decimal(found["mean_score"]),
                decimal(found["p_value"]),
                f"{found['volume_mm3']:.0f}" if found["volume_mm3"] >= 10 else f"{found['volume_mm3']:.2f}",
                _position(found["centroid_ras_mm"]),
                _position(found["centroid_lps_mm"]),
                str(first) if first == last else f"{first}{NOTHING}{last}",
            ]
        )
    note = "Most suspicious first. Centre: centre of gravity (x, y, z)."
    if all(found["p_value"] is None for found in candidates):
        note += " No p-values: the run had no calibration."
    return section("Lesion candidates", table(_COLUMNS, rows, numeric=1), f'<p class="note">{note}</p>')


def _position(point: Sequence[float]) -> str:
    # An eighth of a micrometre left of the middle is no "-0.0".
    return ", ".join(f"{round(value, 1) + 0.0:.1f}" for value in point)


def _pictures(content: Mapping[str, Any], slices: KeySlices) -> str:
    figures = []
    for (caption, png), ids in zip(slices.pictures, slices.candidates, strict=True):
        whose = f"Candidate {ids[0]}" if len(ids) == 1 else f"Candidates {', '.join(map(str, ids))}"
        words = escape(f"{whose if ids else 'No candidate'}: {caption}")
        data = base64.b64encode(png).decode("ascii")
        figures.append(
            f'<figure><figcaption>{words}</figcaption><img alt="{words}" src="data:image/png;base64,{data}"></figure>'
        )
    black, white = slices.grey
    low, high = slices.limits
    intensity = content["scan"]["intensity"]
    note = (
        "Left the scan with the candidates' outlines in their colours, right the same slice under the anomaly map with "
        "white outlines. The letters are the patient's sides. "
        f"Grey from {black:.4g} (black) to {white:.4g} (white)"
        f"{f', after the intensity step: {intensity}' if intensity else ', in the values of the scan'}. "
        f"Colours of the map from {low:.3f} to {high:.3f}."
    )
    return section("Key slices", *figures, f'<p class="note">{escape(note)}</p>')


def _scan(scan: Mapping[str, Any]) -> dict[str, Any]:
    shape, spacing = scan["shape"], scan["spacing_mm"]
    affine = scan["affine_ras"]
    return {
        "modality": scan["modality"],
        "intensity": scan["intensity"],
        "voxels": TIMES.join(map(str, shape)),
        "spacing, mm": TIMES.join(map(shown, spacing)),
        "extent, mm": TIMES.join(f"{n * length:.1f}" for n, length in zip(shape, spacing, strict=True)),
        "axes run to": scan["orientation"],
        "first voxel RAS, mm": _position([row[3] for row in affine[:3]]),
    }


def _calibration(calibration: Mapping[str, Any]) -> str:
    return f'<h2 style="margin-top: 18px">Calibration</h2>{facts(calibration)}'
