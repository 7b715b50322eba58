"""Odd inputs: each module adds its kinds to the catalogue when it is imported."""

from __future__ import annotations

import importlib
import pkgutil

from tests.data.odd_inputs.catalogue import CATALOGUE, Case, Odd

__all__ = ["CATALOGUE", "Case", "Odd"]

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
