from .case_order import ordered
from .determinism import repeatable
from .profiling import StudyProfiler
from .screener import Screened, ScreenedCase, screen

__all__ = ["Screened", "ScreenedCase", "StudyProfiler", "ordered", "repeatable", "screen"]
