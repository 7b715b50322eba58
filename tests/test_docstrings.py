"""Docstrings of public names describe every argument, the returned value and the raised errors.

Ruff checks that a docstring exists and that an ``Args`` section is complete; these tests check that the sections exist.
Public are the names in ``__all__`` of a room, and the methods that such a class adds to those of its bases.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import monai_zsad
from monai_zsad import errors
from monai_zsad.errors import InputError

# The names of the evaluation are used by `evaluate.yaml` and the commands, not by users' programs.
WITHOUT_USERS = {"evaluation"}
ROOMS = sorted({file.parent.name for file in Path(monai_zsad.__file__).parent.glob("*/__init__.py")} - WITHOUT_USERS)


def public(room: Any) -> Iterator[tuple[str, Any]]:
    """Functions and classes that a room lists, without duplicates."""
    seen = set()
    for name in getattr(room, "__all__", ()):
        value = getattr(room, name)
        if (inspect.isclass(value) or inspect.isfunction(value)) and value not in seen:
            seen.add(value)
            yield f"{room.__name__}.{name}", value


def callables(name: str, value: Any) -> Iterator[tuple[str, Any, str]]:
    """Functions and methods, each with the text that has to describe it."""
    if not inspect.isclass(value):
        yield name, value, inspect.getdoc(value) or ""
        return
    own = value.__dict__.get("__init__")
    text = inspect.getdoc(value) or ""
    if isinstance(own, FunctionType):
        yield name, own, text + "\n" + (inspect.getdoc(own) or "" if own.__doc__ else "")
    for key, member in value.__dict__.items():
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        inherited = any(hasattr(base, key) for base in value.__mro__[1:])
        if isinstance(function, FunctionType) and not key.startswith("_") and not inherited:
            yield f"{name}.{key}", function, inspect.getdoc(getattr(value, key)) or ""


def gaps(name: str, function: Any, text: str) -> Iterator[str]:
    """What the text does not describe."""
    if not text.strip():
        yield f"{name}: no docstring"
        return
    arguments = [
        parameter
        for parameter in inspect.signature(function).parameters
        if parameter not in ("self", "cls", "args", "kwargs")
    ]
    for parameter in arguments:
        if not described(parameter, text):
            yield f"{name}: argument {parameter}"
    # Without arguments, the summary is enough to describe the returned value.
    if (
        arguments
        and function.__name__ != "__init__"
        and returns(function)
        and not re.search(r"^(Returns|Yields):", text, re.M)
    ):
        yield f"{name}: Returns"
    for error in sorted(raised(function)):
        if not re.search(rf"^ +{error}\b", section(text, "Raises"), re.M):
            yield f"{name}: Raises {error}"


def described(parameter: str, text: str) -> bool:
    """Whether a line describes the parameter, alone or together with others."""
    lines = section(text, "Args") + section(text, "Attributes")
    return re.search(rf"^ +([\w*]+, )*\**{parameter}(, [\w*]+)*( \(.*\))?:", lines, re.M) is not None


def section(text: str, title: str) -> str:
    """The indented lines under a title."""
    found = re.search(rf"^{title}:\n((?:[ ]+.*\n?|\n)*)", text, re.M)
    return found[1] if found else ""


def returns(function: Any) -> bool:
    """Whether the function returns a value."""
    return str(inspect.signature(function).return_annotation) not in (
        "None",
        "NoReturn",
        "Self",
        str(inspect.Signature.empty),
    )


def raised(function: Any) -> set[str]:
    """Errors of this package that the body raises itself."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError):
        return set()
    calls = [node.exc.func for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    names = {ast.unparse(function).rpartition(".")[2] for function in calls}
    return names & set(errors.__all__)


def all_gaps(room: Any) -> list[str]:
    return [gap for name, value in public(room) for one in callables(name, value) for gap in gaps(*one)]


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_documented(room: str):
    found = all_gaps(importlib.import_module(f"monai_zsad.{room}"))
    assert not found, "not described:\n" + "\n".join(found)


class Sample:
    """Something.

    Args:
        one: described.
        several, more: described together.
    """

    def __init__(self, one: int, several: int, more: int, lacking: int) -> None:
        if lacking < 0:
            raise errors.ConfigurationError("lacking: give 0 or more")
        del one, several, more

    def double(self, value: int, *rest: int) -> int:
        """Twice the value."""
        if rest:
            raise InputError("rest")
        return 2 * value

    def name(self) -> str:
        """Its name."""
        return "sample"

    def nothing(self) -> None:
        pass


def test_the_test_finds_what_is_missing():
    found = [gap for one in callables("Sample", Sample) for gap in gaps(*one)]
    assert found == [
        "Sample: argument lacking",
        "Sample: Raises ConfigurationError",
        "Sample.double: argument value",
        "Sample.double: argument rest",
        "Sample.double: Returns",
        "Sample.double: Raises InputError",
        "Sample.nothing: no docstring",
    ]
