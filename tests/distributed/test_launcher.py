from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from monai_zsad.distributed.launcher import Job, absolute, launch
from monai_zsad.distributed.local_workers import LocalWorkers
from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.writers.status import StatusRow, write_row

RECORDS = [{"case": case} for case in ("anna", "ben")]


class Scripted:
    """Workers that finish cases and end as a script says."""

    def __init__(self, script: Sequence[tuple[str, str]]) -> None:
        self.script = list(script)
        self.running: list[tuple[int, Job]] = []
        self.started: list[int] = []
        self.stopped = False
        self.asked = 0
        self.told: list[str] = []

    def start(self, number: int, job: Job) -> None:
        self.running.append((number, job))
        self.started.append(number)

    def wait(self, seconds: float) -> tuple[int, str] | None:
        assert seconds > 0
        self.asked += 1
        if self.asked % 2:
            return None
        number, job = self.running.pop(0)
        case, end = self.script.pop(0)
        if case:
            folder = Path(job.settings["output_dir"])
            (folder / ".status").mkdir(exist_ok=True)
            status = "failed" if case == "ben" else "done"
            write_row(folder, StatusRow(case, status, reason="too bad", run=job.run))
        return number, end

    def stop(self) -> None:
        self.stopped = True


def run(folder: Path, workers: Scripted, count: int = 2, **settings: Any) -> bool:
    given = {"dataset_dir": "in", "output_dir": str(folder), **settings}
    tell = workers.told.append
    return launch(lambda: workers, count, "inference.yaml", given, lambda: RECORDS, lambda row: tell(row.case))


def test_tables_and_answer(tmp_path: Path) -> None:
    workers = Scripted([("anna", "done"), ("ben", "done")])
    assert run(tmp_path, workers) is False
    assert workers.stopped
    assert workers.told == ["anna", "ben"]
    assert [line.split(",")[1] for line in (tmp_path / "status.csv").read_text().splitlines()[1:]] == ["done", "failed"]
    assert sorted(path.name for path in (tmp_path / ".status").iterdir()) == ["anna.json", "ben.json"]
    again = Scripted([("anna", "done"), ("", "done")])
    assert run(tmp_path, again) is True
    assert again.told == ["anna"]
    assert [record["case"] for record in json.loads((tmp_path / "summary.json").read_text())["cases"]] == ["anna"]
    assert run(tmp_path, Scripted([("anna", "done")]), 1, resume=True) is True
    assert len(json.loads((tmp_path / "summary.json").read_text())["cases"]) == 1 + 1


def test_who_dies_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    workers = Scripted([("", "died"), ("anna", "died"), ("", "died"), ("", "done"), ("", "done")])
    assert run(tmp_path, workers)
    assert workers.started == [0, 1, 0, 1, 0]
    assert "worker 1 died" in caplog.text


@pytest.mark.parametrize(
    ("script", "message"),
    [([("anna", "died")] + [("", "died")] * 3, "3 workers died"), ([("", "refused")], "could not start")],
)
def test_a_run_that_cannot_go_on(tmp_path: Path, script: list[tuple[str, str]], message: str) -> None:
    workers = Scripted(script)
    with pytest.raises(OutputError, match=message):
        run(tmp_path, workers)
    assert workers.stopped


def test_queries_are_retrieved_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="query"):
        run(tmp_path, Scripted([]), dataset_dir="https://pacs/dicom-web/series?PatientID=7")


def test_paths_hold_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "axial").touch()
    (tmp_path / "own.pt").touch()
    given = {"plane": "axial", "output_dir": "out", "weights#a": "own.pt", "weights#b": "seed:0", "alpha": 0.1}
    assert absolute(given) == given | {"output_dir": str(tmp_path / "out"), "weights#a": str(tmp_path / "own.pt")}
    assert absolute({"dataset_dir": "https://pacs/dicom-web/series"})["dataset_dir"].startswith("https://")


def test_a_local_worker_that_refuses_or_dies(tmp_path: Path) -> None:
    workers = LocalWorkers(1, "monai_zsad.workflow.launching")
    try:
        workers.start(0, Job(str(tmp_path / "gone.yaml"), {}, "run"))
        assert workers.wait(0) is None
        ended = workers.wait(300)
        assert ended in ((0, "refused"), (0, "died"))
        workers.start(7, Job("", {}, "run"))
        workers.running[7].kill()
        assert workers.wait(300) == (7, "died")
    finally:
        workers.stop()
