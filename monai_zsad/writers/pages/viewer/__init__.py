"""The viewer of a report: scroll through the scan with the anomaly map over it, offline and in one file.

It shows the volumes by NiiVue; :mod:`~monai_zsad.writers.pages.viewer.niivue` says how and why. Everything is part of
the page: NiiVue and the volumes are compressed and written as base64. The browser unpacks them and imports NiiVue from
an address of its own memory, so that the page also works when it is opened as a file.

An element of the page with ``data-ras="x,y,z"`` (mm) moves the crosshair to this point when it is clicked. When the
crosshair moves, the event ``zsad:crosshair`` is sent to the document. Its detail is ``{ras, scan, anomaly}``: the point
[x, y, z] in mm, and the values of scan and map.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from monai.config import NdarrayOrTensor

from monai_zsad.writers.figures.drawing import suspicion_colours
from monai_zsad.writers.figures.views import make_view, on_grid
from monai_zsad.writers.pages.values import render
from monai_zsad.writers.pages.viewer.niivue import NiiVue, installed_niivue
from monai_zsad.writers.pages.viewer.volumes import CT_PRESETS, Volumes, pack

__all__ = ["CONTENT_SECURITY_POLICY", "viewer_installed", "viewer_page", "viewer_section"]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""Policy of a page with the viewer: nothing is loaded from the network. ``blob:`` is the memory of the page."""

_COLOUR_STEPS = 64


def viewer_installed() -> bool:
    """Whether NiiVue is installed; without it, pages have no viewer.

    Example:
        >>> isinstance(viewer_installed(), bool)
        True
    """
    return installed_niivue() is not None


def viewer_section(
    image: NdarrayOrTensor,
    anomaly_map: NdarrayOrTensor,
    labels: NdarrayOrTensor | None = None,
    candidates: Sequence[Mapping[str, Any]] = (),
    modality: str | None = None,
    limits: tuple[float, float] | None = None,
) -> Markup:
    """The viewer as a part of a page.

    Args:
        image: the scan (C, X, Y, Z), affine in RAS, mm; the first channel is shown. If it is on another grid, it is
            resampled to the grid of the map.
        anomaly_map: the map (1, X, Y, Z), affine in RAS, mm.
        labels: labels of the candidates (1, X, Y, Z) on the grid of the map.
        candidates: candidates of the findings, most suspicious first.
        modality: as in the findings; a CT gets window presets. Without a modality, a scan with values of air in HU is
            taken for a CT.
        limits: map values where the colours begin and end; None: as in the preview.

    Returns:
        HTML; empty if ``ipyniivue`` is not installed, for a scan of one slice and for a picture in colour.

    Raises:
        ConfigurationError: labels on another grid.
        OutputError: if the map is not finite.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> volume = MetaTensor(torch.rand(1, 12, 12, 5), affine=torch.eye(4))
        >>> len(viewer_section(volume, volume)) < 3_000_000, viewer_section(volume[..., :1], volume[..., :1])
        (True, Markup(''))
    """
    program = installed_niivue()
    if program is None:
        return Markup()
    view = make_view(on_grid(image, anomaly_map), anomaly_map, None, None, labels)
    if min(view.scan.shape) < 2 or view.colour is not None:
        return Markup()
    is_ct = None if not modality else modality.strip().upper() == "CT"
    volumes = pack(view, [int(found["id"]) for found in candidates], is_ct, limits)
    return Markup(render("section.html.j2", _values(volumes, program, candidates), __name__))


def viewer_page(
    image: NdarrayOrTensor,
    anomaly_map: NdarrayOrTensor,
    labels: NdarrayOrTensor | None = None,
    candidates: Sequence[Mapping[str, Any]] = (),
    modality: str | None = None,
    limits: tuple[float, float] | None = None,
    title: str = "",
) -> str:
    """A page with only the viewer, for a frame in a notebook.

    Args:
        image: see :func:`viewer_section`.
        anomaly_map: see :func:`viewer_section`.
        labels: see :func:`viewer_section`.
        candidates: see :func:`viewer_section`.
        modality: see :func:`viewer_section`.
        limits: see :func:`viewer_section`.
        title: title of the page, such as the name of the case.

    Returns:
        The HTML. Where there is no viewer (see :func:`viewer_section`), the page says so.

    Raises:
        ConfigurationError: see :func:`viewer_section`.
        OutputError: see :func:`viewer_section`.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> volume = MetaTensor(torch.rand(1, 12, 12, 5), affine=torch.eye(4))
        >>> "<title>anna</title>" in viewer_page(volume, volume, title="anna")
        True
    """
    section = viewer_section(image, anomaly_map, labels, candidates, modality, limits)
    return render(
        "page.html.j2",
        {"title": title, "viewer": section, "policy": CONTENT_SECURITY_POLICY, "installed": viewer_installed()},
        __name__,
    )


def _values(volumes: Volumes, program: NiiVue, candidates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    low, high = volumes.limits
    marks = suspicion_colours([float(found["peak_score"]) for found in candidates])
    presets = {name: [level - width / 2, level + width / 2] for name, (level, width) in CT_PRESETS.items()}
    settings = {
        "levels": volumes.levels,
        "grey": volumes.grey,
        "presets": presets if volumes.levels else {},
        "limits": [low, high],
        "colours": _colours(),
        "marks": [[round(255 * part) for part in colour] for colour in marks][:255],
        "points": [[float(value) for value in found["peak_ras_mm"]] for found in candidates],
    }
    return {
        # A "<" would end the element in which the settings are written.
        "settings": Markup(json.dumps(settings).replace("<", "\\u003c")),
        "presets": list(settings["presets"]),
        "data": {
            "niivue": program.module,
            **{name: _text(getattr(volumes, name)) for name in ("scan", "anomaly", "outlines")},
        },
        "program": program,
        "thinned": volumes.thinned,
        "has_candidates": bool(candidates),
    }


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _colours() -> list[list[int]]:
    """Red, green and blue of the map, as in the figures of the report."""
    from matplotlib import colormaps

    colours = colormaps["inferno"](np.linspace(0.0, 1.0, _COLOUR_STEPS))[:, :3]
    return np.rint(255 * colours).astype(int).tolist()
