"""The command line: what is printed where, and exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from monai_zsad import __version__
from monai_zsad.cli.main import main
from monai_zsad.errors import WeightsError


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONAI_ZSAD_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("MONAI_ZSAD_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.delenv("MONAI_ZSAD_TRACEBACK", raising=False)


def exit_code(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code


def test_success_and_usage_errors_have_their_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out.split() == ["monai-zsad", __version__]
    assert exit_code("weights", "bogus") == 2
    assert exit_code("weights", "info") == 2


def test_errors_are_one_message_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("weights", "fetch", "crane:visa_epoch5") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("error:") == 1
    assert "crane:visa_epoch5" in printed.err
    assert "Traceback" not in printed.err


def test_a_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONAI_ZSAD_TRACEBACK", "1")
    with pytest.raises(WeightsError):
        main(["weights", "info", "nothing"])


def test_as_a_program() -> None:
    command = [sys.executable, "-m", "monai_zsad", "weights", "path", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
