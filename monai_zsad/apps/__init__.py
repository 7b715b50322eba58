"""Programs for people: command line, bundle helpers. Modules are imported on first use."""

from __future__ import annotations

import importlib
from types import ModuleType

_MODULES = (
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
    "prompts_cli",
    "results_cli",
    "resuming",
    "scan_prompts",
    "score_cli",
    "screen_cli",
    "screening",
    "settings",
    "slicer",
    "slicer_cli",
    "small_model",
    "training",
    "training_files",
    "weights_cli",
)


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
