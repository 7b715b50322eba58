"""Runs of the app: one at a time, with progress, and cancelled on request. The model stays loaded between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_zsad.errors import InputError, ZsadError, show_tracebacks
from monai_zsad.integrations.app.choices import BundleChoice, checked_options
from monai_zsad.integrations.app.storage import Session, Storage
from monai_zsad.workflow import ScreenedCase, screen
from monai_zsad.workflow.console import quiet_console

__all__ = ["Cancelled", "Jobs", "Outcome", "Progress"]

Progress = Callable[[float, str], None]
"""Gets the share that is done, in [0, 1], and a text."""


class Cancelled(BaseException):
    """The user has cancelled the run. No ``Exception``: a run goes on after one that a single scan raises."""


@dataclass(frozen=True)
class Outcome:
    """What a run has given.

    Attributes:
        cases: the scans with results.
        problems: one sentence for each scan that was refused or failed, or for the whole run.
        cancelled: whether the user has cancelled it.
        token: secret part of the addresses of the results.
    """

    cases: tuple[ScreenedCase, ...] = ()
    problems: tuple[str, ...] = ()
    cancelled: bool = False
    token: str = ""


class Jobs:
    """The runs of all open pages.

    Args:
        storage: where scans and results lie.
        options: options of all runs, such as ``device``.
    """

    def __init__(self, storage: Storage, options: Mapping[str, Any] | None = None) -> None:
        self.storage = storage
        self._options = dict(options or {})
        self._turn = threading.Lock()
        self._cancelled: dict[str, threading.Event] = {}
        self._closed: set[str] = set()

    def ask(self, page: str) -> None:
        """Announce a run of a page. :meth:`cancel` then also reaches a run that waits for its turn.

        Args:
            page: its id.
        """
        self._cancelled[page] = threading.Event()

    def cancel(self, page: str) -> None:
        """Cancel the run of a page: at once if it waits, else when the slices that are computed now are done.

        Args:
            page: its id.
        """
        if page in self._cancelled:
            self._cancelled[page].set()

    def close(self, page: str) -> None:
        """Cancel the run of a page and delete everything that belongs to the page.

        Args:
            page: its id.
        """
        running = page in self._cancelled
        self._closed.add(page)
        self.cancel(page)
        if not running:
            self._forget(page)

    def stop(self, seconds: float = 10) -> None:
        """Cancel all runs, and wait for them.

        Args:
            seconds: at most.
        """
        for event in list(self._cancelled.values()):
            event.set()
        if self._turn.acquire(timeout=seconds):
            self._turn.release()

    def run(self, page: str, choice: BundleChoice, values: Mapping[str, Any], progress: Progress) -> Outcome:
        """Screen the scan of a page. It waits until no other run is active.

        Args:
            page: its id.
            choice: the bundle.
            values: what the user chose, by ids of options.
            progress: is told how far the run is.

        Returns:
            The result. What the user can correct is among its problems; other exceptions are reported there, too.
        """
        event = self._cancelled.setdefault(page, threading.Event())

        def report(share: float, text: str) -> None:
            if event.is_set():
                raise Cancelled
            progress(share, text)

        session = self.storage.session(page)
        try:
            with self._turn:
                report(0, "The model is loaded")
                return self._screened(session, choice, values, report)
        except Cancelled:
            self.storage.new_results(session)
            return Outcome(cancelled=True)
        except ZsadError as error:
            return Outcome(problems=(self.storage.without_folders(str(error)),))
        except Exception as error:  # the page shows every error
            if show_tracebacks():
                raise
            # Neither the text of the error nor a traceback: they may hold names of files.
            return Outcome(
                problems=(
                    f"{type(error).__name__}: the run failed by a defect of the program; screen this scan with "
                    "`monai-zsad screen`, and report what it prints",
                )
            )
        finally:
            self.storage.clear_scratch()
            self._cancelled.pop(page, None)
            if page in self._closed:
                self._forget(page)

    def _screened(self, session: Session, choice: BundleChoice, values: Mapping[str, Any], report: Progress) -> Outcome:
        if session.scan is None:
            raise InputError("upload: there is no scan; drop one onto the page first")
        choice.check_weights()
        options = self._options | checked_options(choice, values)
        folder = self.storage.new_results(session)
        result = _screen(session.scan, folder, choice.name, options, report)
        cases = tuple(case for case in result.cases.values() if case.is_done)
        for case in cases:
            report(1, "Packing the results")
            self.storage.write_zip(session, case.case)
        problems = tuple(self.storage.without_folders(case.reason) for case in result.failed)
        return Outcome(cases, problems, token=session.token)

    def _forget(self, page: str) -> None:
        self._closed.discard(page)
        self.storage.forget(page)


def _screen(scan: Path, folder: Path, bundle: str, options: Mapping[str, Any], report: Progress) -> Any:
    """The one call of the package. The swap to a loaded model is here."""
    with quiet_console("silent", progress=False, on_progress=report):
        return screen(scan, folder, bundle, progress=False, **options)
