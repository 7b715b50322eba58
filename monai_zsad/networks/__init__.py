"""Zero-shot anomaly networks: (B, C, H, W) slices in [0, 1] to (B, 2, H, W) map and score."""

from monai_zsad.networks.aaclip import AACLIP
from monai_zsad.networks.adaptation import TestTimeAdaptation
from monai_zsad.networks.anoclip import AnoCLIP
from monai_zsad.networks.anomalyclip import AnomalyCLIP
from monai_zsad.networks.base import Prediction, ZeroShotNetwork
from monai_zsad.networks.crane import Crane, CranePlus
from monai_zsad.networks.runtimes import ONNXNetwork, OpenVINONetwork, check_runtime, with_runtime
from monai_zsad.networks.screening_clip import ScreeningCLIP
from monai_zsad.networks.shared import FeatureNetwork, SharedNetworks

__all__ = [
    "AACLIP",
    "AnoCLIP",
    "AnomalyCLIP",
    "Crane",
    "CranePlus",
    "FeatureNetwork",
    "ONNXNetwork",
    "OpenVINONetwork",
    "Prediction",
    "ScreeningCLIP",
    "SharedNetworks",
    "TestTimeAdaptation",
    "ZeroShotNetwork",
    "check_runtime",
    "with_runtime",
]
