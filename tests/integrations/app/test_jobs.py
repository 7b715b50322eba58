"""Runs of the app with a model that computes nothing: turns, cancel, problems, and what is kept."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from monai_zsad.errors import InputError
from monai_zsad.integrations.app import jobs as module
from monai_zsad.integrations.app.choices import BundleChoice
from monai_zsad.integrations.app.jobs import Jobs, Outcome
from monai_zsad.integrations.app.storage import Storage

TINY = BundleChoice.read("tiny_screening")


class Model:
    """Stands for the loaded model. ``work`` is called in its run."""

    made: ClassVar[list[Model]] = []

    def __init__(self, bundle: str, **options: Any) -> None:
        self.bundle, self.options = bundle, options
        self.calls: list[dict[str, Any]] = []
        Model.made.append(self)

    def __call__(self, scan: Path, folder: Path, *, on_progress: Any, **options: Any) -> Any:
        self.calls.append(options)
        assert scan.is_dir()
        on_progress(0.5, "half")
        Model.work(scan, folder, on_progress)
        (folder / "anna").mkdir()
        (folder / "anna" / "report.html").write_text("report")
        done = SimpleNamespace(case="anna", is_done=True)
        bad = SimpleNamespace(case="ben", is_done=False, reason=f"{scan}/ben.nii: is damaged; copy it again")
        return SimpleNamespace(cases={"anna": done, "ben": bad}, failed=[bad])

    @staticmethod
    def work(scan: Path, folder: Path, on_progress: Any) -> None:
        """What a test puts in its place."""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "Screener", Model)
    monkeypatch.setattr(Model, "made", [])
    storage = Storage(max_upload_mb=1)
    yield Jobs(storage, {"device": "cpu"})
    storage.close()


def with_scan(jobs: Jobs, page: str) -> None:
    file = jobs.storage.uploads / page / "anna.nii"
    file.parent.mkdir()
    file.write_bytes(b"x")
    jobs.storage.take(jobs.storage.session(page), [file])


def run(jobs: Jobs, page: str = "page", choice: BundleChoice = TINY, **values: Any) -> Outcome:
    return jobs.run(page, choice, values, lambda share, text: None)


def test_results_and_problems(jobs: Jobs):
    with_scan(jobs, "page")
    outcome = run(jobs, anatomy="brain")
    assert [case.case for case in outcome.cases] == ["anna"]
    assert outcome.problems == ("ben.nii: is damaged; copy it again",)
    assert jobs.storage.result_file(outcome.token, "anna", "results.zip") is not None
    assert Model.made[0].calls == [{"anatomy": "brain"}]
    assert Model.made[0].options["device"] == "cpu"


def test_the_model_stays_loaded_until_another_bundle_is_chosen(jobs: Jobs):
    with_scan(jobs, "page")
    run(jobs)
    run(jobs, anatomy="brain")
    assert len(Model.made) == 1
    run(jobs, choice=BundleChoice("other", "", {}))
    assert [model.bundle for model in Model.made] == ["tiny_screening", "other"]


def test_a_new_run_deletes_the_results_of_the_last_one(jobs: Jobs):
    with_scan(jobs, "page")
    first = run(jobs)
    second = run(jobs)
    assert jobs.storage.result_file(first.token, "anna", "report.html") is None
    assert jobs.storage.result_file(second.token, "anna", "report.html") is not None


def test_without_a_scan_or_weights_the_sentence_has_the_remedy(jobs: Jobs):
    assert "drop one" in run(jobs).problems[0]
    with_scan(jobs, "page")
    assert "weights fetch" in run(jobs, choice=BundleChoice.read("crane")).problems[0]
    assert "choose one" in run(jobs, anatomy="nonsense").problems[0]
    assert not Model.made


@pytest.mark.parametrize("error", [InputError("/x: holds no scan; give one"), ValueError("Anna Müller.nii")])
def test_errors_are_one_sentence(jobs: Jobs, monkeypatch: pytest.MonkeyPatch, error: Exception):
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Model, "work", fail)
    with_scan(jobs, "page")
    outcome = run(jobs)
    assert len(outcome.problems) == 1
    # The text of a defect may hold a patient's name.
    assert "Müller" not in outcome.problems[0]
    assert (str(error) in outcome.problems[0]) == isinstance(error, InputError)


def started(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Events: a run is active; it may go on."""
    active, go_on = threading.Event(), threading.Event()

    def work(scan: Path, folder: Path, on_progress: Any) -> None:
        (folder / "partial").write_text("partial")
        active.set()
        assert go_on.wait(10)
        on_progress(0.6, "more")

    monkeypatch.setattr(Model, "work", work)
    return active, go_on


def in_background(jobs: Jobs, page: str, outcomes: dict[str, Outcome]) -> threading.Thread:
    jobs.ask(page)
    thread = threading.Thread(target=lambda: outcomes.update({page: run(jobs, page)}))
    thread.start()
    return thread


def test_a_run_waits_for_imports_of_the_warm_up(jobs: Jobs, monkeypatch: pytest.MonkeyPatch):
    importing, go_on = threading.Event(), threading.Event()

    def slow_import(name: str) -> None:
        importing.set()
        assert go_on.wait(10)

    monkeypatch.setattr(module, "importlib", SimpleNamespace(import_module=slow_import))
    with_scan(jobs, "page")
    jobs.warm_up()
    assert importing.wait(10)
    outcomes: dict[str, Outcome] = {}
    thread = in_background(jobs, "page", outcomes)
    thread.join(0.2)
    assert not Model.made
    go_on.set()
    thread.join(60)
    assert len(outcomes["page"].cases) == 1


def test_cancel_ends_a_run_and_one_that_waits(jobs: Jobs, monkeypatch: pytest.MonkeyPatch):
    active, go_on = started(jobs, monkeypatch)
    outcomes: dict[str, Outcome] = {}
    for page in ("one", "two"):
        with_scan(jobs, page)
    threads = [in_background(jobs, "one", outcomes)]
    assert active.wait(10)
    threads.append(in_background(jobs, "two", outcomes))
    jobs.cancel("two")
    threads[1].join(10)
    assert outcomes["two"].cancelled
    assert threads[0].is_alive()
    jobs.cancel("one")
    go_on.set()
    threads[0].join(10)
    assert outcomes == {"one": Outcome(cancelled=True), "two": Outcome(cancelled=True)}
    assert len(Model.made[0].calls) == 1
    assert not list(jobs.storage.root.rglob("partial"))


def test_one_run_at_a_time(jobs: Jobs, monkeypatch: pytest.MonkeyPatch):
    active, go_on = started(jobs, monkeypatch)
    outcomes: dict[str, Outcome] = {}
    for page in ("one", "two"):
        with_scan(jobs, page)
    first = in_background(jobs, "one", outcomes)
    assert active.wait(10)
    second = in_background(jobs, "two", outcomes)
    second.join(0.2)
    assert second.is_alive()
    assert len(Model.made[0].calls) == 1
    go_on.set()
    first.join(10)
    second.join(10)
    assert all(outcome.cases for outcome in outcomes.values())


def test_closing_the_page_ends_its_run_and_deletes_everything(jobs: Jobs, monkeypatch: pytest.MonkeyPatch):
    active, go_on = started(jobs, monkeypatch)
    outcomes: dict[str, Outcome] = {}
    with_scan(jobs, "page")
    thread = in_background(jobs, "page", outcomes)
    assert active.wait(10)
    jobs.close("page")
    go_on.set()
    thread.join(10)
    assert outcomes["page"].cancelled
    assert [path for path in jobs.storage.root.rglob("*") if path.is_file()] == []


def test_closing_a_page_without_a_run(jobs: Jobs):
    with_scan(jobs, "page")
    jobs.close("page")
    assert [path for path in jobs.storage.root.rglob("*") if path.is_file()] == []


def test_the_end_waits_for_the_run(jobs: Jobs, monkeypatch: pytest.MonkeyPatch):
    active, go_on = started(jobs, monkeypatch)
    outcomes: dict[str, Outcome] = {}
    with_scan(jobs, "page")
    thread = in_background(jobs, "page", outcomes)
    assert active.wait(10)
    threading.Timer(0.2, go_on.set).start()
    jobs.stop()
    thread.join(1)
    assert outcomes["page"].cancelled


def test_a_run_that_starts_after_its_page_was_closed_leaves_nothing(jobs: Jobs):
    with_scan(jobs, "page")
    jobs.ask("page")
    jobs.close("page")
    assert run(jobs).cancelled
    assert not list(jobs.storage.root.glob("page-*"))
