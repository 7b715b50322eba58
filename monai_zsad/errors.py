"""Errors that a user can act on: every message names what is wrong and the remedy.

The command line and the bundles print such an error as one sentence, without a traceback; anything else is a
defect of ours and keeps its traceback.
"""

from __future__ import annotations

__all__ = ["ConfigurationError", "InputError", "OutputError", "WeightsError", "ZsadError"]


class ZsadError(Exception):
    """Base of all errors with a remedy. The message is meant for the user's eyes."""


class ConfigurationError(ZsadError, ValueError):
    """An argument or a configuration value that cannot be used."""


class InputError(ZsadError, ValueError):
    """A scan or folder that cannot be read, or not without guessing."""


class WeightsError(ZsadError, RuntimeError):
    """Weights that are unknown, missing, damaged or of another shape."""


class OutputError(ZsadError, OSError):
    """A result that cannot be written, or would overwrite another."""
