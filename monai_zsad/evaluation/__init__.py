"""Evaluation of a bundle on a benchmark set: protocols, predictions that are kept, figures beside published ones.

Modules are imported on first use: a protocol or a published figure is to be had without PyTorch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "cases": (
        "ClassBatches",
        "LoadTruth",
        "PictureCased",
        "benchmark_cases",
        "picture_prediction",
        "volume_prediction",
    ),
    "figures": ("FIGURE_TITLES", "Figure", "Findings", "Scoring"),
    "handlers": ("ClassPrompts", "before_writing", "scored_network"),
    "isolation": ("IsolatedCases", "collate_cases"),
    "page": ("evaluation_page",),
    "pictures": ("picture_findings",),
    "predictions": ("Prediction", "load_prediction", "prediction_file", "save_prediction"),
    "protocols": ("Protocol", "choose_protocol", "class_prompts", "known_protocols"),
    "published": ("PublishedFigure", "published_figures", "published_title"),
    "running": ("EvaluationRun", "SavePredictiond"),
    "scoring": ("TABLE_FILES", "score_run"),
    "tables": ("Table",),
    "volumes": ("volume_findings",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
