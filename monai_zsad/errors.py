"""Errors that a user can act on: every message names what is wrong and the remedy.

The command line and the bundles print such an error as one sentence, without a traceback; anything else is a
defect of ours and keeps its traceback.
"""

from __future__ import annotations

import os

__all__ = [
    "TRACEBACK_VARIABLE",
    "ConfigurationError",
    "InputError",
    "OutputError",
    "WeightsError",
    "ZsadError",
    "show_tracebacks",
]

TRACEBACK_VARIABLE = "MONAI_ZSAD_TRACEBACK"
"""Environment variable. If it is set to 1, errors of the user keep their tracebacks."""


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
