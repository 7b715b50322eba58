"""Zero-shot anomaly detection for medical volumes, as an extension of MONAI.

Subpackages, :func:`~monai_zsad.workflow.screen` and :class:`~monai_zsad.workflow.Screener` are imported on first use,
so that ``import monai_zsad`` is fast:

>>> import monai_zsad
>>> monai_zsad.networks.Crane.__name__
'Crane'
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from monai_zsad import deprecated
from monai_zsad._version import __version__

if TYPE_CHECKING:
    from monai_zsad.workflow import Screener, screen

__all__ = ["Screener", "__version__", "screen"]

_OF_WORKFLOW = ("Screener", "screen")

deprecated.install()


# Not lazy_loader: `import monai_zsad.bundles` works in an interpreter without any dependency.
def __getattr__(name: str) -> Any:
    if name in _OF_WORKFLOW:
        return getattr(importlib.import_module("monai_zsad.workflow"), name)
    if name in _rooms() or name == "apps":
        return importlib.import_module(f"monai_zsad.{name}")
    raise AttributeError(f"module 'monai_zsad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_OF_WORKFLOW, *_rooms()})


def _rooms() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
