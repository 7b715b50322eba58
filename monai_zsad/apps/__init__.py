"""Programs for people: :func:`screen`, the command line, bundle helpers. All is imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai_zsad.apps.screened import Screened, ScreenedCase, screen

__all__ = ["Screened", "ScreenedCase", "screen"]

_MODULES = (
    "bundle_cli",
    "bundles",
    "calibration",
    "case_names",
    "cli",
    "cohort",
    "compare",
    "compare_cli",
    "compared_bundles",
    "concealing",
    "convert_cli",
    "datasets_cli",
    "demo",
    "evaluation",
    "label_cli",
    "monailabel",
    "options",
    "processes",
    "prompts_cli",
    "results_cli",
    "resuming",
    "scan_prompts",
    "score_cli",
    "screen_cli",
    "screen_run",
    "screened",
    "screening",
    "settings",
    "slicer",
    "slicer_cli",
    "small_model",
    "training",
    "training_files",
    "weights_cli",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(f"{__name__}.screened"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
