"""Old dotted paths keep working for one release, as bundles and scripts of users name them.

An old module is imported as an alias, and an old name is looked up at its new path. Each old path warns once. Like
MONAI, this package uses ``FutureWarning``: Python hides a ``DeprecationWarning`` from people who run a bundle. At the
end of the period, remove this module, its test, ``workflow/deprecated.py`` and the lines in ``__init__.py``.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__all__ = ["OLD_PATHS", "install", "new_path"]

_PACKAGE = "monai_zsad"


def _read_table() -> dict[str, str]:
    # Plain text, as `import monai_zsad.bundles` works without any dependency.
    with open(os.path.join(os.path.dirname(__file__), "deprecated.txt"), encoding="ascii") as stream:
        return dict(line.split() for line in stream)


OLD_PATHS = _read_table()
"""Old path to new path, both below ``monai_zsad``; a name below an old path is found below the new path."""

# Packages that hold only aliases.
_EMPTY = ("apps", "apps.cohort")
_PARENTS = {path.rpartition(".")[0] for path in OLD_PATHS}
_warned: set[str] = set()


def new_path(old: str) -> str | None:
    """The new path of an old one, both below ``monai_zsad``; None if it has not moved.

    Example:
        >>> new_path("data.phantoms.head.phantom_head")
        'synthesis.phantoms.head.phantom_head'
    """
    start, rest = old, ""
    while start:
        if start in OLD_PATHS:
            return OLD_PATHS[start] + rest
        start, _, last = start.rpartition(".")
        rest = f".{last}{rest}"
    return None


def install() -> None:
    """Let Python find the old paths; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds old modules, and makes packages look up the names that have moved elsewhere.

    Not a subclass of ``importlib.abc.MetaPathFinder``, as that import takes longer than all others of this package.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Spec of an old module, or of a package whose names have moved; None for all others."""
        package, _, old = fullname.partition(".")
        if package != _PACKAGE or (old not in _PARENTS and new_path(old) is None):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None:
            loader: Any = _AliasLoader()
            return ModuleSpec(fullname, loader, is_package=True) if _is_old_module(old) else None
        if spec.loader is not None and (old in _PARENTS or old in OLD_PATHS):
            run = spec.loader.exec_module
            spec.loader.exec_module = partial(_execute, run)  # type: ignore[method-assign]
        return spec


class _AliasLoader:
    """Makes a module without content, which looks up every name at its new path."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Let Python create the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Let the module look names up."""
        module.__getattr__ = partial(_look_up, module, None)  # type: ignore[method-assign]


def _execute(run: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Run a module that remains, and let it look up its moved names."""
    run(module)
    own = module.__dict__.get("__getattr__")
    module.__getattr__ = partial(_look_up, module, own)  # type: ignore[method-assign]


def _is_old_module(old: str) -> bool:
    new = new_path(old)
    if new is None:
        return old in _EMPTY
    try:
        return find_spec(f"{_PACKAGE}.{new}") is not None
    except ModuleNotFoundError:
        return False


def _look_up(module: ModuleType, own: Callable[[str], Any] | None, name: str) -> Any:
    unknown = AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
    if own is not None:
        try:
            return own(name)
        except AttributeError as error:
            unknown = error
    full = f"{module.__name__}.{name}"
    old = full.removeprefix(f"{_PACKAGE}.")
    # Python imports a module that exists by itself, after this error.
    if not name.startswith("__") and PathFinder.find_spec(full, getattr(module, "__path__", [])) is None:
        if _is_old_module(old):
            return importlib.import_module(full)
        home, _, new_name = (new_path(old) or "").rpartition(".")
        if home:
            with suppress(AttributeError):
                value = getattr(importlib.import_module(f"{_PACKAGE}.{home}"), new_name)
                _warn_once(full, f"{_PACKAGE}.{home}.{new_name}")
                return value
    raise unknown


def _warn_once(old: str, new: str) -> None:
    if old not in _warned:
        _warned.add(old)
        message = f"{old} is deprecated and works for one more release: use {new}"
        # The line that uses the old path.
        warnings.warn(message, FutureWarning, stacklevel=3)
