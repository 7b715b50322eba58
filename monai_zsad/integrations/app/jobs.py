"""Runs of the app: one at a time, with progress, and cancelled on request. The model stays loaded between them."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_zsad.errors import InputError, ZsadError, show_tracebacks
from monai_zsad.integrations.app.choices import BundleChoice, checked_options
from monai_zsad.integrations.app.storage import Session, Storage
from monai_zsad.workflow import ScreenedCase, Screener

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
        self._waiting: list[str] = []
        self._changed = threading.Condition()
        self._preparing = threading.RLock()
        self._sample: Path | None = None
        self._screener: tuple[str, Screener] | None = None
        self._cancelled: dict[str, threading.Event] = {}
        self._closed: set[str] = set()

    def warm_up(self) -> None:
        """Import what the first run needs and make the sample scan, while the user chooses."""

        def prepare() -> None:
            with self._preparing:
                for name in ("monai.bundle", "monai.engines"):
                    importlib.import_module(name)
                self.sample()

        threading.Thread(target=prepare, daemon=True).start()

    def sample(self) -> Path:
        """The sample scan, a synthetic head with one lesion (FLAIR). It is made once."""
        with self._preparing:
            if self._sample is None:
                from monai_zsad.synthesis import write_sample_scan

                self._sample = write_sample_scan(self.storage.root / "sample")
            return self._sample

    def ask(self, page: str) -> None:
        """Announce a run of a page. :meth:`cancel` then also reaches a run that waits for its turn.

        Args:
            page: its id.
        """
        self._cancelled[page] = threading.Event()

    def cancel(self, page: str) -> None:
        """Cancel the run of a page: soon if it waits, else when the slices that are computed now are done.

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
        self._closed.add(page)
        self.cancel(page)
        with self._changed:
            active = page in self._waiting
        if not active:
            self.storage.forget(page)

    def stop(self, seconds: float = 10) -> None:
        """Cancel all runs, and wait for them.

        Args:
            seconds: at most.
        """
        for event in list(self._cancelled.values()):
            event.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, timeout=seconds)

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
            with self._turn(page, report):
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
            self._cancelled.pop(page, None)
            if page in self._closed:
                self.storage.forget(page)

    @contextlib.contextmanager
    def _turn(self, page: str, report: Progress) -> Iterator[None]:
        """Wait until all runs that came before are done."""
        with self._changed:
            self._waiting.append(page)
        try:
            while before := self._waiting.index(page):
                report(0, f"Waiting for {before} other {'run' if before == 1 else 'runs'}")
                with self._changed:
                    self._changed.wait(0.5)
            try:
                yield
            finally:
                self.storage.clear_scratch()
        finally:
            with self._changed:
                self._waiting.remove(page)
                self._changed.notify_all()

    def _screened(self, session: Session, choice: BundleChoice, values: Mapping[str, Any], report: Progress) -> Outcome:
        if session.scan is None:
            raise InputError("upload: there is no scan; drop one onto the page first")
        choice.check_weights()
        folder = self.storage.new_results(session)
        # MONAI's modules import one another in circles. A second thread could get one that is only half imported.
        with self._preparing:
            options = checked_options(choice, values)
            screener = self._loaded(choice.name)
        result = screener(session.scan, folder, on_progress=report, **options)
        cases = tuple(case for case in result.cases.values() if case.is_done)
        for case in cases:
            report(1, "Packing the results")
            self.storage.write_zip(session, case.case)
        problems = tuple(self.storage.without_folders(case.reason) for case in result.failed)
        return Outcome(cases, problems, token=session.token)

    def _loaded(self, bundle: str) -> Screener:
        """The model of a bundle. Only the last one is kept: two large ones may not fit into the memory."""
        if self._screener is None or self._screener[0] != bundle:
            self._screener = None
            self._screener = bundle, Screener(bundle, progress=False, **self._options)
        return self._screener[1]
