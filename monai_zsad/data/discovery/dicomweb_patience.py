"""Waiting for a DICOMweb server that is away for a while, as during a restart."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from monai_zsad.data.codes import refusal
from monai_zsad.errors import ConfigurationError

__all__ = ["AWAY", "WAIT_VARIABLE", "Patience"]

WAIT_VARIABLE = "MONAI_ZSAD_DICOMWEB_WAIT"
"""Environment variable with the seconds for which a server that has answered before is waited for."""

AWAY = frozenset({408, 429, 502, 503, 504})
"""Status of an answer after which the same request may succeed later: Request Timeout, Too Many Requests, Bad Gateway,
Service Unavailable, Gateway Timeout."""

_logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_WAIT_S = 120.0
# An address that has never answered may be wrong.
_FIRST_WAIT_S = 2.0
_PAUSES_S = (0.25, 10.0)


class Patience:
    """Repeats requests while a server is away: it refuses connections, breaks them off, or is overloaded.

    The retries of dicomweb-client were not enough: they end after seconds, do not notice an answer that breaks off, and
    send the rest of a large object as if it were the whole.

    A server that has answered is waited for, with growing pauses, see :data:`WAIT_VARIABLE`. One that has not answered
    yet is tried for two seconds. After one that has been waited for in vain, each further request is tried once.

    Args:
        service: address of the server, for messages.

    Raises:
        ConfigurationError: if the environment variable is not a number of seconds.

    Example:
        >>> Patience("https://pacs/dicom-web")(lambda: "answer")
        'answer'
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self._longest_s = _wait_from_environment()
        self._wait_s = min(_FIRST_WAIT_S, self._longest_s)
        self._has_answered = False

    def __call__(self, request: Callable[..., _Result], *values: Any, **named: Any) -> _Result:
        """The result of a request, which is repeated as a whole.

        Args:
            request: is called again after a failure, and must then not do anything twice.
            *values: for the request.
            **named: for the request.

        Returns:
            What it returns.

        Raises:
            InputError: if a server that had answered was waited for in vain.
            requests.RequestException: if the server has never answered, or answers with an error.
        """
        import requests

        first: float | None = None
        pause_s = _PAUSES_S[0]
        while True:
            try:
                result = request(*values, **named)
            except requests.RequestException as error:
                now = time.monotonic()
                first = now if first is None else first
                left_s = self._left_s(error, now - first)
            else:
                if self._has_answered and first is not None:
                    self._tell("%s: the server answers again", self.service)
                self._has_answered, self._wait_s = True, self._longest_s
                return result
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _PAUSES_S[1])

    def _left_s(self, error: Exception, passed_s: float) -> float:
        """Seconds for which the server is still waited for after a failure."""
        cause = _why_away(error)
        if not cause or not self._wait_s:
            raise error
        if passed_s >= self._wait_s:
            waited_s, self._wait_s = self._wait_s, 0.0
            if not self._has_answered:
                raise error
            finding = f"the server has not answered for {waited_s:.0f} s ({cause})"
            raise refusal(self.service, "server-failed", finding, "try again when it answers") from None
        if self._has_answered and not passed_s:
            text = "%s: the server does not answer (%s); trying again for up to %.0f s"
            self._tell(text, self.service, cause, self._wait_s)
        return self._wait_s - passed_s

    def _tell(self, *text: Any) -> None:
        # Also on the terminal of a run, which otherwise shows no lines of the log.
        _logger.warning(*text, extra={"shown": True})


def _why_away(error: Exception) -> str:
    """Why a failed request may succeed later; an empty text if it will not."""
    import requests

    response = getattr(error, "response", None)
    if response is not None:
        return f"status {response.status_code}" if response.status_code in AWAY else ""
    passing = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return type(error).__name__ if isinstance(error, passing) else ""


def _wait_from_environment() -> float:
    text = os.environ.get(WAIT_VARIABLE) or str(_WAIT_S)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ConfigurationError(f"{WAIT_VARIABLE}={text!r}: give a number of seconds, such as 120")
    return seconds
