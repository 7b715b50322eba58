"""Imports of a package, read from its source without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Module", "imports", "modules"]

Module = tuple[str, ...]
_BY_NAME = {"import_module", "optional_import", "__import__"}


def modules(package: Path) -> Iterator[tuple[Path, Module]]:
    """Every source file of the package with the parts of its dotted name; stubs of lazy packages too."""
    for file in sorted([*package.rglob("*.py"), *package.rglob("*.pyi")]):
        yield file, (package.name, *file.relative_to(package).with_suffix("").parts)


def imports(file: Path, module: Module) -> Iterator[tuple[int, Module]]:
    """Line and dotted target of every import; ``from a import b`` gives ``a.b``, since ``b`` may be a module.

    Every import counts, wherever it stands: inside functions, under ``TYPE_CHECKING``, and by name through
    ``importlib``, MONAI's ``optional_import`` or ``__import__``.
    """
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = module[: -node.level] if node.level else ()
            base += tuple((node.module or "").split(".")) if node.module else ()
            for alias in node.names:
                yield node.lineno, (*base, alias.name)
        elif isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            argument = node.args[0]
            if name in _BY_NAME and isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield node.lineno, tuple(argument.value.split("."))
