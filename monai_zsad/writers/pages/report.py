"""The report of a case: one HTML page for a person, from the findings and the figures of key slices."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection

from monai_zsad.errors import ConfigurationError
from monai_zsad.result_files import CASE_FILES
from monai_zsad.writers.base import CaseLayout, CaseWriter
from monai_zsad.writers.facts import Meta, require
from monai_zsad.writers.figures.key_slices import KeySlices, key_slices
from monai_zsad.writers.figures.views import PLANES, make_view, on_grid
from monai_zsad.writers.files import atomic_path
from monai_zsad.writers.pages.case_page import Viewer, case_page
from monai_zsad.writers.records.findings import findings

__all__ = ["SaveReportD", "SaveReportDict", "SaveReportd", "report"]


def report(
    data: Mapping[Hashable, Any],
    content: Mapping[str, Any],
    key: str = "pred",
    image_key: str = "image",
    plane: str | None = None,
    pictures: int = 3,
    limits: tuple[float, float] | None = None,
    viewer: bool = True,
    run: Mapping[str, Any] | None = None,
) -> str:
    """The report of a case as one HTML page, which loads no other files: style and images are part of it.

    Args:
        data: with the scan, the map and the candidates' labels under ``<key>_labels``.
        content: result of :func:`~monai_zsad.writers.findings` for the same data.
        key: the anomaly map (1, X, Y, Z), affine in RAS, mm.
        image_key: the scan (C, X, Y, Z), the first channel is shown. If it is on another grid, as after the
            preprocessing, it is resampled to the grid of the map.
        plane: ``"axial"``, ``"coronal"`` or ``"sagittal"``; None: the plane of the scan's own slices.
        pictures: maximum number of key slices.
        limits: map values where the colours begin and end; None: as in :func:`~monai_zsad.writers.save_preview`.
        viewer: put scan and map into the page, to scroll through them. It takes several MB. Without ``ipyniivue``, the
            page has still images only.
        run: what the page says about the run, by name, as in :attr:`RunSettings.run
            <monai_zsad.writers.RunSettings.run>`.

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
        >>> page = report(data, findings(data), pictures=1, viewer=False)
        >>> "<h1>anna</h1>" in page, "http:" in page
        (True, False)
    """
    require(data, {image_key: "what loads the scan", f"{key}_labels": "LesionCandidatesd"})
    view = make_view(on_grid(data[image_key], data[key]), data[key], None, plane, data[f"{key}_labels"])
    slices = key_slices(view, content["candidates"], pictures, limits)
    return case_page(
        content, view, slices, _viewer(data, content, key, image_key, slices) if viewer else None, run or {}
    )


def _viewer(
    data: Mapping[Hashable, Any], content: Mapping[str, Any], key: str, image_key: str, slices: KeySlices
) -> Viewer:
    from monai_zsad.writers.pages.viewer import CONTENT_SECURITY_POLICY, viewer_section

    volumes = data[image_key], data[key], data[f"{key}_labels"]
    modality = content["scan"]["modality"]
    section = viewer_section(*volumes, content["candidates"], modality=modality, limits=slices.limits)
    return Viewer(section, CONTENT_SECURITY_POLICY)


class SaveReportd(CaseWriter):
    """Write ``<output_dir>/<case>/report.html``, by :func:`findings` and :func:`report`.

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
        viewer: see :func:`report`.
        run: see :func:`report`.
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
        >>> _ = SaveReportd(output_dir=folder, pictures=1, viewer=False)(data)
        >>> [file.name for file in Path(folder, "anna").iterdir()]
        ['report.html']
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        output_dir: str | os.PathLike[str] = "./",
        meta: Meta = None,
        settings: Mapping[str, Any] | None = None,
        image_key: str = "image",
        plane: str | None = None,
        pictures: int = 3,
        limits: tuple[float, float] | None = None,
        viewer: bool = True,
        run: Mapping[str, Any] | None = None,
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
        self.viewer = viewer
        self.run = run
        self.layout = CaseLayout(output_dir, output_postfix, ".html", makedirs=True)

    def write(self, data: Mapping[Hashable, Any], key: str) -> None:
        """Write the page for one key.

        Raises:
            OutputError: see :func:`findings` and :func:`report`; or if the file cannot be written.
        """
        content = findings(data, key, self.model, self.settings, run=self.run)
        options = (self.image_key, self.plane, self.pictures, self.limits, self.viewer, self.run)
        html = report(data, content, key, *options)
        with atomic_path(self.layout.filename(subject=content["case"])) as temporary:
            temporary.write_text(html, encoding="utf-8")


SaveReportD = SaveReportDict = SaveReportd
