"""MONAI transforms for screening: windows, orientation, foreground, geometry, refined maps and lesion candidates.

Their order in a bundle: upright orientation, intensity, crop, in-plane spacing, square. Intensity comes before the
square, because the padding is 0, and 0 is black only after the values are scaled to [0, 1].
"""

from __future__ import annotations

from monai_zsad.transforms.calibrated import (
    CalibratedCandidates,
    CalibratedCandidatesD,
    CalibratedCandidatesd,
    CalibratedCandidatesDict,
    ScoreCalibration,
)
from monai_zsad.transforms.candidates import (
    LesionCandidates,
    LesionCandidatesD,
    LesionCandidatesd,
    LesionCandidatesDict,
)
from monai_zsad.transforms.ct_windows import (
    CT_WINDOWS,
    CTWindow,
    CTWindowD,
    CTWindowd,
    CTWindowDict,
    HUWindow,
    WindowSpec,
    parse_windows,
)
from monai_zsad.transforms.foreground import BodyMask, BodyMaskD, BodyMaskd, BodyMaskDict
from monai_zsad.transforms.geometry import (
    BodyCrop,
    BodyCropD,
    BodyCropd,
    BodyCropDict,
    InPlaneSpacing,
    InPlaneSpacingD,
    InPlaneSpacingd,
    InPlaneSpacingDict,
    SquarePad,
    SquarePadD,
    SquarePadd,
    SquarePadDict,
)
from monai_zsad.transforms.intensity import (
    ForegroundPercentileScale,
    ForegroundPercentileScaleD,
    ForegroundPercentileScaled,
    ForegroundPercentileScaleDict,
    ScanIntensity,
    ScanIntensityD,
    ScanIntensityd,
    ScanIntensityDict,
)
from monai_zsad.transforms.lesion_candidate import LesionCandidate
from monai_zsad.transforms.orientation import (
    DISPLAY_AXCODES,
    UprightOrientation,
    UprightOrientationD,
    UprightOrientationd,
    UprightOrientationDict,
    acquisition_plane,
)
from monai_zsad.transforms.refinement import (
    GuidedRefinement,
    GuidedRefinementD,
    GuidedRefinementd,
    GuidedRefinementDict,
)
from monai_zsad.transforms.score import VolumeScoreD, VolumeScored, VolumeScoreDict, volume_score

__all__ = [
    "BodyCrop",
    "BodyCropD",
    "BodyCropDict",
    "BodyCropd",
    "BodyMask",
    "BodyMaskD",
    "BodyMaskDict",
    "BodyMaskd",
    "CT_WINDOWS",
    "CTWindow",
    "CTWindowD",
    "CTWindowDict",
    "CTWindowd",
    "CalibratedCandidates",
    "CalibratedCandidatesD",
    "CalibratedCandidatesDict",
    "CalibratedCandidatesd",
    "DISPLAY_AXCODES",
    "ForegroundPercentileScale",
    "ForegroundPercentileScaleD",
    "ForegroundPercentileScaleDict",
    "ForegroundPercentileScaled",
    "GuidedRefinement",
    "GuidedRefinementD",
    "GuidedRefinementDict",
    "GuidedRefinementd",
    "HUWindow",
    "InPlaneSpacing",
    "InPlaneSpacingD",
    "InPlaneSpacingDict",
    "InPlaneSpacingd",
    "LesionCandidate",
    "LesionCandidates",
    "LesionCandidatesD",
    "LesionCandidatesDict",
    "LesionCandidatesd",
    "ScanIntensity",
    "ScanIntensityD",
    "ScanIntensityDict",
    "ScanIntensityd",
    "ScoreCalibration",
    "SquarePad",
    "SquarePadD",
    "SquarePadDict",
    "SquarePadd",
    "UprightOrientation",
    "UprightOrientationD",
    "UprightOrientationDict",
    "UprightOrientationd",
    "VolumeScoreD",
    "VolumeScoreDict",
    "VolumeScored",
    "WindowSpec",
    "acquisition_plane",
    "parse_windows",
    "volume_score",
]
