from . import (
    aaclip,
    adaptation,
    adapters,
    anchor_cache,
    anoclip,
    anomalyclip,
    base,
    crane,
    learned,
    maps,
    prompt_learner,
    runtimes,
    screening_clip,
    shared,
)
from .aaclip import AACLIP
from .adaptation import TestTimeAdaptation
from .anoclip import AnoCLIP
from .anomalyclip import AnomalyCLIP
from .base import Prediction, ZeroShotNetwork
from .crane import Crane, CranePlus
from .runtimes.networks import ONNXNetwork, OpenVINONetwork, with_runtime
from .runtimes.options import check_device, check_runtime
from .screening_clip import ScreeningCLIP
from .shared import FeatureNetwork, SharedNetworks

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
    "aaclip",
    "adaptation",
    "adapters",
    "anchor_cache",
    "anoclip",
    "anomalyclip",
    "base",
    "check_device",
    "check_runtime",
    "crane",
    "learned",
    "maps",
    "prompt_learner",
    "runtimes",
    "screening_clip",
    "shared",
    "with_runtime",
]
