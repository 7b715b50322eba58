from . import augment, bank, batches, filled, outlines, paint, tumours
from .bank import NormalBank, without_pathology
from .batches import TrainingBatches, accumulated_parts, calibration_slices
from .filled import FilledSlices, fill_tumour, filled_slices
from .outlines import OutlineLesionsd, outline_bright_lesions
from .tumours import PATHOLOGIES, HeldOutSlices, TumourSlices, read_tumour_slices, read_tumour_volumes

__all__ = [
    "FilledSlices",
    "HeldOutSlices",
    "NormalBank",
    "OutlineLesionsd",
    "PATHOLOGIES",
    "TrainingBatches",
    "TumourSlices",
    "accumulated_parts",
    "augment",
    "bank",
    "batches",
    "calibration_slices",
    "fill_tumour",
    "filled",
    "filled_slices",
    "outline_bright_lesions",
    "outlines",
    "paint",
    "read_tumour_slices",
    "read_tumour_volumes",
    "tumours",
    "without_pathology",
]
