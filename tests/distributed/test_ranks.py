from __future__ import annotations

import pytest

from monai_zsad.distributed.ranks import CREW_VARIABLE, Place, place

TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RESTART_COUNT": "0"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Place()),
        ({"WORLD_SIZE": "1", "RANK": "0"}, Place()),
        (TORCHRUN, Place(world=2)),
        (TORCHRUN | {"RANK": "1"}, Place(leads=False, world=2)),
        (TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "1"}, Place(started_again=True, world=2)),
        (TORCHRUN | {CREW_VARIABLE: "name"}, Place(leads=False, started_again=True, run="name")),
    ],
)
def test_places(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: Place) -> None:
    for name in (*TORCHRUN, CREW_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert place() == expected


def test_names_of_runs() -> None:
    assert Place(run="name").agree() == "name"
    assert Place().agree() != Place().agree()
