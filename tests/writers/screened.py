"""A screened case without a network: a phantom, its lesions as a map, and the candidates in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation
from scipy import ndimage

from monai_zsad.synthesis import phantom_head
from monai_zsad.transforms import LesionCandidatesd

SETTINGS: dict[str, Any] = {
    "threshold": 0.4,
    "method": "fixed",
    "low": 0.25,
    "min_volume_mm3": 20.0,
    "border_mm": 0.0,
    "max_candidates": 20,
}

# What a reader may leave in the meta data of a scan, and no result may show.
PLANTED = {
    "filename_or_obj": "/archive/Plantedsurname_Anna/scan.dcm",
    "source_files": "/archive/Plantedsurname_Anna/IM0001\n/archive/Plantedsurname_Anna/IM0002",
    "PatientName": "Plantedsurname^Anna",
    "0010|0010": "Plantedsurname^Anna",
    "PatientID": "PLANTED-4711",
    "PatientBirthDate": "19010203",
    "AccessionNumber": "PLANTEDACC99",
    "StudyDescription": "planted words on a patient",
    "descrip": "planted header text",
}
PLANTED_TEXTS = ("plantedsurname", "planted-4711", "19010203", "plantedacc99", "planted words", "planted header")


def screened(case: str = "head", codes: str = "RAS", shape: tuple[int, int, int] = (64, 64, 20), seed: int = 1) -> Any:
    """Data as the postprocessing of a bundle holds them behind ``LesionCandidatesd``: a lesion and a faint spot."""
    spacing = (232.0 / shape[0], 232.0 / shape[1], 180.0 / shape[2])
    head = phantom_head(shape, spacing, seed=seed)
    heat = ndimage.gaussian_filter(head.lesion.astype(np.float32), [4.0 / length for length in spacing])
    heat *= 0.93 / heat.max()
    spot = np.zeros(shape, dtype=np.float32)
    spot[tuple(int(share * n) for share, n in zip((0.3, 0.62, 0.6), shape, strict=True))] = 1
    spot = ndimage.gaussian_filter(spot, [6.0 / length for length in spacing])
    heat = np.maximum(heat, spot * 0.55 / spot.max())
    meta = {**PLANTED, "modality": "MR", "intensity": "percentiles 1 to 99 of the body", "warnings": "uneven slices"}
    turn = Orientation(axcodes=codes, labels=None)
    affine = torch.as_tensor(head.affine)
    data: dict[Any, Any] = {
        "case": case,
        "image": turn(MetaTensor(torch.as_tensor(head.image)[None].float(), affine=affine, meta=dict(meta))),
        "pred": turn(MetaTensor(torch.as_tensor(heat)[None], affine=affine, meta=dict(meta))),
        "volume_score": torch.tensor(0.71),
        "volume_score_method": "top_k_mean",
        "modality": "MR",
    }
    return LesionCandidatesd("pred", **SETTINGS)(data)
