"""Many studies: which process runs which case, what became of each, and where the time goes. Imported on first use."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "choosing": ("ORDERS", "first_cases", "ordered"),
    "claims": ("Claims", "Owner"),
    "determinism": ("repeatable",),
    "profiling": ("StudyProfiler",),
    "sharing": ("Share",),
    "status": ("StatusRow", "read_rows", "write_tables"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
