from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from monai_zsad.distributed.sharing import MAX_DEATHS, Share, clean_case
from monai_zsad.errors import OutputError
from monai_zsad.writers.status import StatusRow, read_row

RECORDS = [{"case": case} for case in ("anna", "ben", "cleo")]


def cases(share: Share) -> list[str]:
    return [record["case"] for record in share.remaining()]


def die_with(share: Share, case: str, number: int) -> None:
    """What a process of the run leaves that was killed."""
    owner = replace(share.claims.owner, token=f"gone{number}", since="1")
    (share.claims.folder / f"{case}.{number}.claim").write_text(json.dumps(asdict(owner)))


def test_a_case_is_run_once_by_two_runs_at_once(tmp_path: Path) -> None:
    one, other = Share(tmp_path, RECORDS, True, "same"), Share(tmp_path, RECORDS, True, "same")
    with one.opened(), other.opened():
        assert one.take("anna")
        assert not other.take("anna")
        assert cases(other) == ["ben", "cleo"]
        one.finish(StatusRow("anna", "done"))
        assert not other.take("anna"), "finished since the other began"
        assert other.take("ben")
        other.finish(StatusRow("ben", "failed"))
        assert cases(one) == ["cleo"]
    assert [row.case for row in one.rows()] == ["anna", "ben"]
    later = Share(tmp_path, RECORDS, True, "same")
    with later.opened():
        assert later.take("ben"), "another run may try again"


def test_runs_with_other_settings_do_not_mix(tmp_path: Path) -> None:
    with Share(tmp_path, RECORDS, settings="these").opened():
        with (
            pytest.raises(OutputError, match="another run with other settings"),
            Share(tmp_path, [], True, "x").opened(),
        ):
            pass
        with Share(tmp_path, RECORDS, True, "these").opened():
            pass
    with Share(tmp_path, RECORDS, settings="x").opened():
        pass


def test_rows_of_earlier_runs_only_where_they_are_resumed(tmp_path: Path) -> None:
    first = Share(tmp_path, RECORDS[:2])
    with first.opened():
        for case in ("anna", "ben"):
            first.finish(StatusRow(case, "done"))
    for resume, expected in ((False, ["cleo"]), (True, ["anna", "ben", "cleo"])):
        share = Share(tmp_path, RECORDS[1:], resume)
        with share.opened():
            share.finish(StatusRow("cleo", "done"))
        assert [row.case for row in share.rows()] == expected


def test_a_case_that_killed_comes_last_and_by_itself(tmp_path: Path) -> None:
    share = Share(tmp_path, RECORDS)
    with share.opened():
        die_with(share, "ben", 0)
        assert [case for case in ("anna", "ben", "cleo") if share.take(case)] == ["anna", "cleo"]
        for case in ("anna", "cleo"):
            share.finish(StatusRow(case, "done"))
        share.one_by_one = True
        assert cases(share) == ["ben"]
        assert share.take("ben")
        assert cases(share) == []


def test_a_case_that_kills_again_and_again_has_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    share = Share(tmp_path, RECORDS)
    with share.opened():
        for number in range(MAX_DEATHS):
            assert "ben" in cases(share)
            die_with(share, "ben", number)
        assert cases(share) == ["anna", "cleo"]
        row = read_row(tmp_path, "ben")
        assert row is not None
        assert (row.status, row.codes) == ("failed", ("worker-lost",))
        assert "killed, 3 times" in caplog.text
    # What earlier runs died of says nothing of this one's.
    later = Share(tmp_path, RECORDS)
    with later.opened():
        assert "ben" in cases(later)


def test_only_what_a_dead_process_wrote_is_cleaned(tmp_path: Path) -> None:
    (tmp_path / "anna").mkdir()
    kept = ["anna/scores.json", "anna/.0123abcd.notes.txt", "anna/.x", ".0123abcd.notes.txt"]
    gone = ["anna/.zsad-0123abcd.scores.json"]
    tables = [".zsad-0123abcd.summary.json", ".status/.zsad-0123abcd.anna.json"]
    share = Share(tmp_path, RECORDS)
    with share.opened():
        for name in kept + gone + tables:
            (tmp_path / name).touch()
        assert [path.relative_to(tmp_path).as_posix() for path in clean_case(tmp_path, "anna")] == gone
        assert clean_case(tmp_path, "nobody") == []
        share.take("ben")
        (tmp_path / ".status" / ".zsad-0123abcd.ben.json").touch()
        with share.tables():
            assert not any((tmp_path / name).exists() for name in gone + tables)
            assert (tmp_path / ".status" / ".zsad-0123abcd.ben.json").exists(), "being written"
    assert all((tmp_path / name).exists() for name in kept)


def test_every_process_waits_if_the_next_step_needs_all_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_zsad.distributed.sharing._POLL_SECONDS", 0.0)
    one, other = (Share(tmp_path, [{"case": "anna"}]) for _ in range(2))
    with one.opened(), other.opened():
        assert one.take("anna")
        assert other.remaining() == []
        assert not other.wait_for_others()
        assert other.wait_for_others(always=True)
        one.finish(StatusRow("anna", "done"))
        assert other.remaining() == []
        assert not other.wait_for_others(always=True)
