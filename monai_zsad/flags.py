"""Yes-or-no options, as they arrive from a configuration or from the command line."""

from __future__ import annotations

from monai_zsad.errors import ConfigurationError

__all__ = ["REPORTS", "parse_flag", "parse_report"]

REPORTS = ("full", "light", "none")
"""Kinds of a case's report: with a viewer of scan and map, without it, or no report."""


def parse_flag(name: str, value: object) -> bool:
    """Read an option that is either on or off.

    MONAI's command line passes ``--name false`` on as text, and Python takes every text as true. Hence the texts
    ``"true"`` and ``"false"`` are read too, in upper or lower case.

    Args:
        name: name of the option, for the error message.
        value: a bool, or ``"true"`` or ``"false"``.

    Returns:
        The value as a bool.

    Raises:
        ConfigurationError: if the value is anything else.

    Example:
        >>> parse_flag("amp", "false"), parse_flag("amp", True)
        (False, True)
    """
    flag = value.strip().lower() if isinstance(value, str) else value
    if not isinstance(value, (bool, str)) or flag not in (True, False, "true", "false"):
        raise ConfigurationError(f"{name}={value!r} cannot be used: it must be true or false.")
    return flag in (True, "true")


def parse_report(value: object) -> str:
    """Read the option ``report``.

    Args:
        value: one of :data:`REPORTS`; true, as value or text, means ``"full"``, and false ``"none"``.

    Returns:
        One of :data:`REPORTS`.

    Raises:
        ConfigurationError: if the value is anything else.

    Example:
        >>> parse_report("light"), parse_report(False)
        ('light', 'none')
    """
    text = str(value).strip().lower() if isinstance(value, bool | str) else ""
    kind = {"true": "full", "false": "none"}.get(text, text)
    if kind not in REPORTS:
        raise ConfigurationError(f"report={value!r} cannot be used: it must be {', '.join(REPORTS)}.")
    return kind
