from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from monai_zsad.errors import InputError
from monai_zsad.workflow.cases.redaction import redact_cases
from monai_zsad.workflow.console import quiet_console
from monai_zsad.workflow.console.quiet import open_log

LOGGER = logging.getLogger("monai_zsad.some.module")


@pytest.fixture(autouse=True)
def nothing_private() -> Iterator[None]:
    yield
    redact_cases([], [])


def end_with(error: Exception, folder: Path) -> None:
    with quiet_console("silent"):
        open_log(folder)
        raise error


def text(folder: Path) -> str:
    return (folder / "run.log").read_text(encoding="utf-8")


def test_everything_is_in_the_log_and_nothing_is_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        with quiet_console(scans="scans", command=f"monai-zsad screen scans -o out{number}"):
            LOGGER.info("before the folder is known")
            open_log(tmp_path)
            LOGGER.info("info %d", number)
            logging.getLogger("ignite.engine").info("epoch")
            logging.getLogger("monai.bundle.scripts").info("input summary")
            warnings.warn("a note", UserWarning, stacklevel=1)
    shown = capfd.readouterr()
    assert shown.out + shown.err == ""
    lines = text(tmp_path).splitlines()
    assert "monai-zsad screen scans -o out0" in lines[0]
    for said in ("before the folder is known", "info 0", "info 1", "epoch", "input summary", "out1"):
        assert sum(said in line for line in lines) in (1, 2), said
    assert "UserWarning: a note" in text(tmp_path)
    assert all(" INFO " in line or " WARNING " in line for line in lines)


def test_a_run_that_refuses_its_folder_writes_no_log(tmp_path: Path) -> None:
    with quiet_console("silent"):
        LOGGER.info("nobody reads this")
    assert list(tmp_path.iterdir()) == []


def test_logging_is_afterwards_as_it_was(tmp_path: Path) -> None:
    import monai.bundle  # noqa: F401

    bundle, root, own = logging.getLogger("monai.bundle.scripts"), logging.getLogger(), logging.getLogger("monai_zsad")
    state = [list(root.handlers), root.level, own.level, list(bundle.handlers), bundle.propagate, warnings.showwarning]
    with pytest.raises(InputError):
        end_with(InputError("scan.nii: is empty; copy it again"), tmp_path)
    assert state == [
        list(root.handlers), root.level, own.level, list(bundle.handlers), bundle.propagate, warnings.showwarning
    ]  # fmt: skip
    assert "scan.nii: is empty; copy it again" in text(tmp_path)


def test_a_programs_own_handler_gets_what_it_got_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with quiet_console("silent"):
        LOGGER.info("too quiet for a handler of warnings")
        LOGGER.warning("loud enough")
    assert [record.getMessage() for record in caplog.records] == ["loud enough"]


def test_verbose_shows_the_log_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with quiet_console("verbose"):
        LOGGER.info("shown")
    assert "shown" in capsys.readouterr().err


@pytest.mark.parametrize(("level", "said"), [("normal", True), ("quiet", True), ("json", True), ("silent", False)])
def test_a_line_that_asks_for_it_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], level, said) -> None:
    with quiet_console(level):
        open_log(tmp_path)
        LOGGER.warning("the server does %s", "not answer", extra={"shown": True})
        LOGGER.error("only in the log")
    assert capsys.readouterr().err == ("warning: the server does not answer\n" if said else "")
    assert "the server does not answer" in text(tmp_path)


def test_a_deprecated_name_is_still_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(), quiet_console("silent"):
        warnings.simplefilter("always")
        open_log(tmp_path)
        for _ in range(2):
            warnings.warn("monai_zsad.old is deprecated: use monai_zsad.new", FutureWarning, stacklevel=1)
    assert capsys.readouterr().err.count("monai_zsad.old is deprecated") == 1
    assert "FutureWarning: monai_zsad.old is deprecated" in text(tmp_path)


def test_names_of_private_scans_are_not_in_the_log(tmp_path: Path) -> None:
    scans = "/pacs/DOE_JANE"
    with quiet_console("silent", scans=scans, command=f"monai-zsad screen {scans} -o out"):
        redact_cases([{"case": "case-1f", "image": [f"{scans}/MR/1.dcm"]}], [True])
        open_log(tmp_path)
        LOGGER.info("reading %s/MR/1.dcm", scans)
        logging.getLogger("monai.bundle.scripts").info("> dataset_dir: '%s'", scans)
        warnings.warn_explicit(
            "Invalid value for VR UI: 'DOE^JANE'", UserWarning, "/lib/pydicom/valuerep.py", 440, registry={}
        )
        logging.getLogger("pydicom").warning('Value "O\'DOE" is too long')
    assert "DOE" not in text(tmp_path)
    assert "case-1f" in text(tmp_path)
    assert "Invalid value for VR UI" in text(tmp_path)


def test_a_query_and_a_password_are_not_in_the_log(tmp_path: Path) -> None:
    query = "https://me:secret@pacs/dicom-web/series?PatientName=DOE"
    with quiet_console("silent", scans=query, command=f"monai-zsad screen '{query}'"):
        open_log(tmp_path)
        LOGGER.info("asking %s", query)
    assert "DOE" not in text(tmp_path)
    assert "secret" not in text(tmp_path)


def test_a_defect_leaves_its_traceback_in_the_log(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        end_with(ZeroDivisionError("by 0"), tmp_path)
    assert "ZeroDivisionError" in text(tmp_path)
    assert "Traceback" in text(tmp_path)


def test_several_processes_write_whole_lines(tmp_path: Path) -> None:
    program = (
        "import logging, os, pathlib, sys\n"
        "from monai_zsad.workflow.console.run_log import RunLog\n"
        "log = RunLog()\n"
        "log.open(pathlib.Path(sys.argv[1]))\n"
        "for n in range(300):\n"
        "    text = f'{os.getpid()}-{n}-' + 'x' * 200\n"
        "    log.handle(logging.makeLogRecord({'msg': text, 'levelno': logging.INFO}))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    lines = text(tmp_path).splitlines()
    assert len(lines) == 600
    assert len(set(lines)) == 600
    assert all(line.endswith("x" * 200) for line in lines)


def test_a_log_that_cannot_be_written_does_not_end_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.log").mkdir()
    with quiet_console("silent"):
        open_log(tmp_path)
        LOGGER.info("lost")
    assert "run.log cannot be written" in capsys.readouterr().err
