from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from monai_zsad.distributed.claims import Claims
from monai_zsad.errors import OutputError
from monai_zsad.result_files import STATUS_FOLDER


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / STATUS_FOLDER).iterdir())


def put(claims: Claims, case: str, number: int = 0, **changes: object) -> Path:
    """A claim of another process, with its own file."""
    owner = replace(claims.owner, token="other", **changes)  # type: ignore[arg-type]
    text = json.dumps(asdict(owner))
    file = claims.folder / "other.run"
    file.write_text(text)
    (claims.folder / f"{case}.{number}.claim").write_text(text)
    return file


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_each_case_has_one_owner(tmp_path: Path) -> None:
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        assert one.take("anna") == 0
        assert one.take("anna") is None
        assert other.take("anna") is None
        assert other.is_held("anna")
        other.release("anna")
        assert one.is_held("anna"), "not its claim to release"
        one.release("anna")
        assert not one.is_held("anna")
        assert other.take("anna") == 0
    assert left(tmp_path) == []


@pytest.mark.parametrize("links", [True, False])
def test_many_processes_share_without_overlap(tmp_path: Path, links: bool) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    start = context.Event()

    def take_all() -> None:
        with Claims(tmp_path, run="one") as claims:
            if not links:
                claims._create = claims._create_without_links  # type: ignore[method-assign]
            start.wait()
            queue.put([case for case in map(str, range(200)) if claims.take(case) is not None])
            # Given up only when all are done.
            time.sleep(1)

    processes = [context.Process(target=take_all) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    taken = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    assert sorted(case for cases in taken for case in cases) == sorted(map(str, range(200)))
    assert left(tmp_path) == []


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path: Path) -> None:
    with Claims(tmp_path) as claims:
        put(claims, "anna", pid=dead_pid(), since="1")
        assert not claims.is_held("anna")
        assert claims.take("anna", after_death=False) is None
        assert claims.take("anna") == 1
        assert claims.deaths("anna") == 1
        assert claims.deaths("anna", "another run") == 0
        claims.release("anna")
        assert claims.take("anna") == 0


def test_a_process_that_was_killed_is_seen_before_it_is_waited_for(tmp_path: Path) -> None:
    program = (
        "import sys, time; from monai_zsad.distributed.claims import Claims\n"
        "with Claims(sys.argv[1]) as claims: claims.take('anna'); print('taken', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, Claims(tmp_path) as claims:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        assert claims.take("anna") is None
        process.send_signal(signal.SIGSTOP)
        assert claims.take("anna") is None, "halted is not dead"
        process.kill()
        while claims.is_held("anna"):
            time.sleep(0.01)
        assert claims.take("anna") == 1


def test_another_process_with_the_same_id_is_not_the_owner(tmp_path: Path) -> None:
    with Claims(tmp_path) as claims:
        if not claims.owner.since:
            pytest.skip("this system does not tell when a process started")
        put(claims, "anna", since="1")
        assert not claims.is_held("anna")


def test_a_silent_process_of_another_machine_loses_its_claims(tmp_path: Path) -> None:
    with Claims(tmp_path, stale_seconds=60) as claims:
        file = put(claims, "anna", host="elsewhere")
        assert claims.is_held("anna")
        now = file.stat().st_mtime
        os.utime(file, (now - 50, now - 50))
        assert claims.is_held("anna")
        os.utime(file, (now - 70, now - 70))
        assert claims.take("anna") == 1


def test_heartbeat(tmp_path: Path) -> None:
    with Claims(tmp_path, beat_seconds=0.02) as claims:
        os.utime(claims.file, (0, 0))
        for _ in range(500):
            if claims.file.stat().st_mtime > 1:
                break
            time.sleep(0.01)
        assert claims.file.stat().st_mtime > 1


def test_a_claim_that_is_being_written_is_respected(tmp_path: Path) -> None:
    with Claims(tmp_path) as claims:
        claim = claims.folder / "anna.0.claim"
        claim.touch()
        assert claims.take("anna") is None
        os.utime(claim, (0, 0))
        assert claims.take("anna") == 1


def test_followers_leave_the_dead_for_the_count(tmp_path: Path) -> None:
    with Claims(tmp_path, run="run") as leader:
        put(leader, "anna", pid=dead_pid(), since="1")
        with Claims(tmp_path, run="run", tidy=False) as follower:
            follower.take("ben")
        assert leader.deaths("anna", "run") == 1
        assert not leader.is_held("ben")
    assert left(tmp_path) == []


def test_others_and_a_declared_death(tmp_path: Path) -> None:
    with Claims(tmp_path, "run", "settings") as one, Claims(tmp_path, "next", "other settings") as two:
        assert [owner.settings for owner in one.others()] == ["other settings"]
        two.take("anna")
        one.void(two.owner.host, two.owner.pid)
        assert one.is_held("anna"), "of another run"
        Claims(tmp_path, "next").void(two.owner.host, two.owner.pid)
        assert not one.is_held("anna")


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / STATUS_FOLDER).touch()
    with pytest.raises(OutputError, match="cannot be written"), Claims(tmp_path):
        pass
