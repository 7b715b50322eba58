"""A figure of the most suspicious slices as a DICOM Secondary Capture."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from monai.config import NdarrayOrTensor

from monai_zsad.writers.dicom.identity import identity, remarks
from monai_zsad.writers.dicom.source import SourceSeries, header_errors
from monai_zsad.writers.facts import UNFAMILIAR_WARNING, banner
from monai_zsad.writers.figures.preview import save_preview

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["dicom_capture"]


def dicom_capture(
    scan: NdarrayOrTensor,
    anomaly_map: NdarrayOrTensor,
    labels: NdarrayOrTensor | None,
    source: SourceSeries,
    model: Mapping[str, Any],
    volume_score: float | None = None,
) -> Dataset:
    """The preview as an RGB Secondary Capture of the source's study, for viewers that show neither SEG nor map.

    The figure contains no name, id or date; patient and study are in the header, as in the other objects. It shows
    several slices side by side, so the header has no orientation and no spacing: letters in the figure show the sides.

    Args:
        scan: (C, X, Y, Z) on the map's grid.
        anomaly_map: (1, X, Y, Z), with its affine (RAS, mm).
        labels: (1, X, Y, Z) label map of the candidates, outlined in the figure; ``None`` draws none.
        source: see :func:`read_source`.
        model: the bundle's description of its model.
        volume_score: shown in the figure.

    Returns:
        highdicom's ``SCImage``, not yet written.

    Raises:
        OutputError: if the source's header cannot be used.
    """
    import highdicom
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        said = remarks(model, source)
        file = save_preview(
            scan,
            anomaly_map,
            Path(folder) / "capture.png",
            affine=np.asarray(getattr(anomaly_map, "affine", np.eye(4))),
            title=said[0],
            volume_score=volume_score,
            banner=banner(model, UNFAMILIAR_WARNING in said),
            labels=labels,
        )
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    with header_errors("DICOM secondary capture"):
        result = highdicom.sc.SCImage.from_ref_dataset(
            ref_dataset=source.images[0],
            pixel_array=pixels,
            photometric_interpretation=highdicom.PhotometricInterpretationValues.RGB,
            bits_allocated=8,
            coordinate_system=highdicom.CoordinateSystemNames.PATIENT,
            patient_orientation=("L", "P"),
            transfer_syntax_uid=highdicom.UID("1.2.840.10008.1.2.1"),
            **identity(source, model, "sc"),
        )
        result.copy_patient_and_study_information(source.images[0])
        result.PatientOrientation = None
        result.ConversionType = highdicom.sc.ConversionTypeValues.WSD.value
        result.BurnedInAnnotation = "NO"
        result.DerivationDescription = said[-1]
        source.identify(result)
    return result
