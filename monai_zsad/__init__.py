"""Zero-shot anomaly detection for medical volumes, as an extension of MONAI.

Subpackages are imported on first use, so that ``import monai_zsad`` costs next to nothing:

>>> import monai_zsad
>>> monai_zsad.networks.Crane.__name__
'Crane'
"""

from __future__ import annotations

import importlib
from types import ModuleType

from monai_zsad._version import __version__

_ROOMS = (
    "backbones",
    "bundles",
    "cli",
    "data",
    "distributed",
    "errors",
    "evaluation",
    "flags",
    "inferers",
    "integrations",
    "losses",
    "metrics",
    "networks",
    "prompts",
    "synthesis",
    "training",
    "transforms",
    "workflow",
    "writers",
)

__all__ = ["__version__"]


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return importlib.import_module(f"monai_zsad.{name}")
    raise AttributeError(f"module 'monai_zsad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
