"""Studies screened out of a real Orthanc that is killed meanwhile, and the results stored back: each object once.

``python -m tests.benchmarks.pacs [--count 50]``. Four small slices per study. The server is killed (SIGKILL) while
series are retrieved, and stays away; started again, and killed and started while ``screen --resume`` retrieves the
rest; and killed and started while ``store`` sends the results. Then ``store`` is interrupted (SIGINT) and called
again, twice. At the end every study must have one segmentation and one report, and the results must be those of a run
on local files, or an assertion fails. tests/integration/test_pacs.py runs it with few studies.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np
import pydicom
import pytest
import requests
import torch

from monai_zsad.cli.main import main as main_command
from tests.data.samples import write_series
from tests.integration.orthanc import Server, running_orthanc

SLICES, SIDE = 4, 32
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
AWAY_S = 2.0
OPTIONS = ["--dicom", "seg,sr", "--threshold", "0.01", "--set", "image_size=64", "--set", "report=none", "-q"]


@dataclass
class Figures:
    """What happened."""

    studies: int
    seconds: dict[str, float] = field(default_factory=dict)
    retrieved_before_the_kill: int = 0
    done_before_the_kill: int = 0
    times_the_server_was_waited_for: int = 0
    objects_reported_as_stored: int = 0
    objects_on_the_server: int = 0


def pixels(study: int, index: int) -> bytes:
    values = np.random.default_rng((study, index)).integers(300, 700, (SIDE, SIDE)).astype("<i2")
    values[:4] = 0
    if index in (1, 2):
        values[12:19, 10 + study % 8 : 17 + study % 8] = 1500
    return values.tobytes()


def write_studies(folder: Path, count: int) -> list[Path]:
    """Folders of one series each; every study is of another patient."""
    for study in range(count):
        write_series(
            folder / f"{study:03}", slices=SLICES, orientation=AXIAL, Rows=SIDE, Columns=SIDE,
            PatientID=f"P{study}", PatientName=f"SECRET^{study}", StudyDate="20260101",
            PixelData=lambda index, study=study: pixels(study, index),
        )  # fmt: skip
    return sorted(folder.iterdir())


def command(words: list[str], log: int, latency_s: float) -> None:
    """A call of the command line; what it says goes to a file, and each of its requests takes longer."""
    # A background job inherits that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(log, 1)
    os.dup2(log, 2)
    send = requests.Session.send

    def send_late(*values: Any, **named: Any) -> requests.Response:
        time.sleep(latency_s)
        return send(*values, **named)

    with mock.patch.object(requests.Session, "send", send_late):
        main_command(words)


class Run:
    """A call of the command line in a fork of this process, which has imported everything; it is watched meanwhile."""

    latency_s = 0.0

    def __init__(self, words: list[str], **environment: str) -> None:
        self.log, path = tempfile.mkstemp()
        os.unlink(path)
        with mock.patch.dict(os.environ, environment):
            self.process = multiprocessing.get_context("fork").Process(
                target=command, args=(words, self.log, self.latency_s)
            )
            self.process.start()

    @property
    def said(self) -> str:
        # Without the position in the file, which both processes share.
        return os.pread(self.log, 1 << 20, 0).decode()

    @property
    def sent(self) -> int:
        return self.said.count(".dcm  stored")

    def wait_until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            assert self.process.is_alive(), f"too early an end: {self.said}"
            time.sleep(0.002)

    def interrupt(self) -> None:
        assert self.process.pid
        os.kill(self.process.pid, signal.SIGINT)

    def ended(self, code: int) -> str:
        self.process.join(1200)
        assert self.process.exitcode == code, self.said
        assert "SECRET" not in self.said
        return self.said


def run(folder: Path, count: int) -> Figures:
    """Screen ``count`` studies, and return the figures."""
    torch.set_num_threads(1)
    figures = Figures(count)
    studies = write_studies(folder / "scans", count)
    with running_orthanc(folder / "orthanc") as server:
        client = server.client()
        for study in studies:
            answer = client.store_instances([pydicom.dcmread(file) for file in study.iterdir()])
            assert not answer.get("FailedSOPSequence")
        os.environ["MONAI_ZSAD_DICOMWEB_USER"] = server.user
        os.environ["MONAI_ZSAD_DICOMWEB_PASSWORD"] = server.password
        os.environ["NO_PROXY"] = "127.0.0.1"
        os.environ["MONAI_ZSAD_SALT"] = "of this benchmark"
        _local(folder, figures)
        _screen(folder, server, figures)
        _store(folder, server, figures)
        _check(folder, client, studies, figures)
    return figures


def _local(folder: Path, figures: Figures) -> None:
    """In this process, so that the imports are made before the first fork."""
    start = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        main_command(["screen", str(folder / "scans"), "-o", str(folder / "alone"), *OPTIONS])
    assert not ended.value.code
    figures.seconds["local files, with the imports"] = time.monotonic() - start


def _screen(folder: Path, server: Server, figures: Figures) -> None:
    kept, results = folder / "kept", folder / "out"
    words = ["screen", f"{server.dicomweb_url}/studies?StudyDate=20260101", "-o", str(results), *OPTIONS]
    words += ["--download", str(kept)]

    def retrieved() -> int:
        return len(list(kept.glob("*/[0-9]*")))

    start = time.monotonic()
    first = Run(words, MONAI_ZSAD_DICOMWEB_WAIT="1")
    first.wait_until(lambda: retrieved() >= figures.studies // 4)
    server.kill()
    said = first.ended(1)
    assert "the server does not answer" in said
    figures.retrieved_before_the_kill = retrieved()
    figures.done_before_the_kill = json.loads((results / "summary.json").read_text())["done"]
    assert 0 < figures.done_before_the_kill == figures.retrieved_before_the_kill < figures.studies
    figures.seconds["screen until the server was given up"] = time.monotonic() - start

    server.start()
    start = time.monotonic()
    second = Run([*words, "--resume"])
    second.wait_until(lambda: retrieved() > figures.retrieved_before_the_kill)
    _kill_for_a_while(server)
    said = second.ended(0)
    assert "the server answers again" in said
    figures.times_the_server_was_waited_for += said.count("the server answers again")
    figures.seconds["screen --resume"] = time.monotonic() - start


def _kill_for_a_while(server: Server) -> None:
    server.kill()
    time.sleep(AWAY_S)
    server.start()


def _store(folder: Path, server: Server, figures: Figures) -> None:
    words = ["store", str(folder / "out"), server.dicomweb_url]
    start = time.monotonic()
    first = Run(words)
    first.wait_until(lambda: first.sent >= figures.studies // 2)
    _kill_for_a_while(server)
    first.wait_until(lambda: first.sent >= figures.studies)
    first.interrupt()
    said = first.ended(130)
    assert "the server answers again" in said
    figures.times_the_server_was_waited_for += said.count("the server answers again")
    before = first.sent

    second = Run(words)
    second.ended(0)
    figures.seconds["store"] = time.monotonic() - start
    figures.objects_reported_as_stored = before + second.sent
    last = Run(words).ended(0)
    assert re.fullmatch(r"(\d+) already there", last.strip()), last


def _check(folder: Path, client: Any, studies: list[Path], figures: Figures) -> None:
    """One object of each kind in every study, as it was written, and the voxels of the local run."""
    for study in studies:
        uid = pydicom.dcmread(next(study.iterdir())).StudyInstanceUID
        items = [pydicom.Dataset.from_json(item) for item in client.search_for_instances(uid)]
        assert sorted(item.Modality for item in items) == ["MR"] * SLICES + ["SEG", "SR"]
        figures.objects_on_the_server += len(items) - SLICES
    cases = sorted(path.parent for path in (folder / "out").glob("*/manifest.json"))
    assert len(cases) == figures.studies
    assert figures.objects_on_the_server == 2 * figures.studies
    # The interruption may have come between an object and the word about it.
    assert 0 <= figures.objects_on_the_server - figures.objects_reported_as_stored <= 1
    for case in cases:
        ours = pydicom.dcmread(case / "seg.dcm")
        there = client.retrieve_instance(ours.StudyInstanceUID, ours.SeriesInstanceUID, ours.SOPInstanceUID)
        assert there == ours
        for name in ("anomaly.nii.gz", "candidates.nii.gz"):
            theirs, local = (nibabel.load(base / name) for base in (case, folder / "alone" / case.name))
            np.testing.assert_array_equal(theirs.affine, local.affine)
            np.testing.assert_array_equal(np.asanyarray(theirs.dataobj), np.asanyarray(local.dataobj))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=50, metavar="N", help="number of studies, at least 8")
    parser.add_argument(
        "--latency", type=float, default=0, metavar="S", help="seconds that each request takes longer; with few studies"
        " on a busy machine, the kills then still come in the middle",
    )  # fmt: skip
    options = parser.parse_args()
    Run.latency_s = options.latency
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), max(options.count, 8))
    print(json.dumps({"python": platform.python_version(), **asdict(figures)}, indent=2))


if __name__ == "__main__":
    main()
