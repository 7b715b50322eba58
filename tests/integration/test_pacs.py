"""A PACS that is killed while its studies are screened and while the results are stored back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.orthanc import orthanc_program

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_everything_is_screened_and_stored_once() -> None:
    pytest.importorskip("dicomweb_client", reason="dicomweb-client is absent: install it with pip")
    orthanc_program()
    # A process of its own, because it forks.
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.pacs", "--count", "8", "--latency", "0.2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout[done.stdout.index("{") :])
    assert figures["objects_on_the_server"] == 16
    assert figures["times_the_server_was_waited_for"] >= 2
