"""Errors that a user can act on: every message names what is wrong and the remedy.

The command line and the bundles print such an error as one sentence, without a traceback; anything else is a
defect of ours and keeps its traceback.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

__all__ = [
    "TRACEBACK_VARIABLE",
    "ConfigurationError",
    "InputError",
    "OutputError",
    "WeightsError",
    "ZsadError",
    "closest",
    "did_you_mean",
    "show_tracebacks",
]

TRACEBACK_VARIABLE = "MONAI_ZSAD_TRACEBACK"
"""Environment variable. If it is set to 1, errors of the user keep their tracebacks."""

# Shares of equal letters: from which a name is similar, and how far the next ones may be behind the most similar one.
_ALIKE, _AS_GOOD = 0.6, 0.15


def show_tracebacks() -> bool:
    """Whether the user wants tracebacks: ``MONAI_ZSAD_TRACEBACK`` is set, and not to ``0`` or ``false``."""
    return os.environ.get(TRACEBACK_VARIABLE, "").lower() not in ("", "0", "false")


class ZsadError(Exception):
    """Base of all errors with a remedy. The message is meant for the user's eyes."""


class ConfigurationError(ZsadError, ValueError):
    """An argument or a configuration value that cannot be used."""


class InputError(ZsadError, ValueError):
    """A scan or folder that cannot be read, or not without guessing.

    Args:
        message: names the file or argument, the finding and the remedy.
        code: stable name of the finding for programs, a key of :data:`monai_zsad.data.REFUSALS` where a reader raises;
            empty elsewhere.

    Example:
        >>> InputError("scan.nii: is empty; copy it again", code="empty-file").code
        'empty-file'
    """

    def __init__(self, message: str = "", *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class WeightsError(ZsadError, RuntimeError):
    """Weights that are unknown, missing, damaged or of another shape."""


class OutputError(ZsadError, OSError):
    """A result that cannot be written, or would overwrite another."""


def closest(name: object, known: Iterable[str], most: int = 3) -> list[str]:
    """Known names that were probably meant, the most similar first.

    Upper and lower case, spaces, hyphens and underscores do not count.

    Args:
        name: what was given.
        known: names to choose from.
        most: how many names to return at most.

    Returns:
        Names that begin with ``name``; if there are none, similar names.

    Example:
        >>> closest("Hart", ["brain", "heart", "liver"])
        ['heart']
    """
    import difflib

    plain = {_plain(candidate): candidate for candidate in known}
    wanted = _plain(str(name))
    near = [candidate for candidate in plain if wanted and candidate.startswith(wanted)]
    if not near:
        alike = {one: difflib.SequenceMatcher(a=one, b=wanted).ratio() for one in plain}
        enough = max(_ALIKE, max(alike.values(), default=0.0) - _AS_GOOD)
        near = sorted((one for one, ratio in alike.items() if ratio >= enough), key=alike.__getitem__, reverse=True)
    return [plain[candidate] for candidate in near][:most]


def did_you_mean(
    name: object, known: Iterable[str], *, also: Iterable[str] = (), listed: bool = True, prefix: str = ""
) -> str:
    """Remedy for a message about an unknown name: similar names, then all known names.

    Args:
        name: what was given.
        known: names to choose from.
        also: further names that are suggested and not listed, such as synonyms.
        listed: whether to name all of them too; False for long lists.
        prefix: what stands before each name, such as ``--``.

    Returns:
        Words that continue a message after a semicolon; an empty text where nothing is similar or listed.

    Example:
        >>> did_you_mean("hart", ["brain", "heart"])
        'did you mean heart? Known are brain, heart'
        >>> did_you_mean("sagital", ["axial", "sagittal"], listed=False)
        'did you mean sagittal?'
        >>> did_you_mean("xyz", ["brain", "heart"])
        'known are brain, heart'
    """
    names = list(known)
    near = [f"{prefix}{one}" for one in closest(name, [*names, *also])]
    every = f"nown are {', '.join(f'{prefix}{one}' for one in names)}" if listed and names else ""
    if not near:
        return every and f"k{every}"
    first = ", ".join(near[:-1])
    question = f"did you mean {first} or {near[-1]}?" if first else f"did you mean {near[0]}?"
    return f"{question} K{every}" if every else question


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character not in " -_")
