from . import bundles, calibration, cases, deprecated, determinism, launching, options, profiling, steps
from .bundles.reading import about_bundle, find_bundle
from .bundles.weights import load_weights
from .calibration import load_calibration
from .cases.cohort import MutualRun
from .cases.names import find_cases
from .cases.prompts import ScanPrompts
from .evaluator import ScreeningEvaluator
from .options.command_line import check_options
from .options.settings import Settings
from .profiling import StudyProfiler
from .python.case import ScreenedCase
from .python.results import Screened
from .python.screener import Screener, screen
from .run import ScreeningRun
from .user_errors import friendly_errors

__all__ = [
    "MutualRun",
    "ScanPrompts",
    "Screened",
    "ScreenedCase",
    "Screener",
    "ScreeningEvaluator",
    "ScreeningRun",
    "Settings",
    "StudyProfiler",
    "about_bundle",
    "bundles",
    "calibration",
    "cases",
    "check_options",
    "deprecated",
    "determinism",
    "find_bundle",
    "find_cases",
    "friendly_errors",
    "launching",
    "load_calibration",
    "load_weights",
    "options",
    "profiling",
    "screen",
    "steps",
]
