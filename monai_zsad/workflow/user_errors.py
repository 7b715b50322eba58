"""Errors of the user as sentences: without MONAI's wrapping, and without a traceback at the end of a program."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from monai_zsad.data import find_user_error
from monai_zsad.errors import show_tracebacks

__all__ = ["friendly_errors", "user_errors"]


@contextlib.contextmanager
def user_errors(prefix: str = "") -> Iterator[None]:
    """Within the block, an error of the user that MONAI has wrapped is raised as it was.

    Args:
        prefix: text before the sentence.

    Raises:
        ZsadError: the first one in the chain of causes of a ``RuntimeError``.
    """
    try:
        yield
    except RuntimeError as error:
        cause = find_user_error(error)
        if cause is None or (cause is error and not prefix):
            raise
        raise (type(cause)(f"{prefix}{cause}") if prefix else cause) from error


def friendly_errors() -> None:
    """Print errors of the user as ``error: ...`` on stderr, without a traceback. The exit code stays 1.

    MONAI wraps what a configuration item or a transform raises in a ``RuntimeError``. The chain of causes is searched
    for a :class:`~monai_zsad.errors.ZsadError`. Other errors are defects and keep Python's own report. With
    ``MONAI_ZSAD_TRACEBACK=1`` all errors do.

    Example:
        >>> before = sys.excepthook
        >>> friendly_errors()
        >>> sys.excepthook is before
        False
        >>> sys.excepthook = before
    """
    if not isinstance(sys.excepthook, _FriendlyHook):
        sys.excepthook = _FriendlyHook(sys.excepthook)


class _FriendlyHook:
    def __init__(self, previous: Any) -> None:
        self.previous = previous

    def __call__(self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        known = None if show_tracebacks() else find_user_error(error)
        if known is None:
            self.previous(kind, error, traceback)
        else:
            print(f"error: {known}", file=sys.stderr)
