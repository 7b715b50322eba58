from __future__ import annotations

import pytest

from monai_zsad.distributed.ranks import RUN_VARIABLE, Rank, current_rank

TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RESTART_COUNT": "0"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Rank()),
        ({"WORLD_SIZE": "1", "RANK": "0"}, Rank()),
        (TORCHRUN, Rank(world_size=2)),
        (TORCHRUN | {"RANK": "1"}, Rank(is_leader=False, world_size=2)),
        (TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "1"}, Rank(restarted=True, world_size=2)),
        (TORCHRUN | {RUN_VARIABLE: "name"}, Rank(is_leader=False, restarted=True, run="name")),
    ],
)
def test_ranks(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: Rank) -> None:
    for name in (*TORCHRUN, RUN_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert current_rank() == expected


def test_names_of_runs() -> None:
    assert Rank(run="name").agree_on_run() == "name"
    assert Rank().agree_on_run() != Rank().agree_on_run()


def test_ranks_agree_on_a_name_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_zsad.distributed.ranks._agreed", [("name", None)])
    assert Rank(world_size=2).agree_on_run() == "name"
