"""Which steps of a bundle write files, and that building them writes none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from monai.transforms import Compose, Identityd

from monai_zsad import writers
from monai_zsad.workflow.steps import without_writers

# What else a writer needs to be built.
ARGUMENTS: dict[str, dict[str, Any]] = {"SaveDicomd": {"kinds": ["seg"]}, "SaveResultsd": {"dicom": ["seg", "sr"]}}
NAMED = (getattr(writers, name) for name in writers.__all__)
WRITERS: list[Any] = sorted(
    {
        kind
        for kind in (getattr(writers, name) for name in writers.__all__)
        if isinstance(kind, type) and issubclass(kind, writers.CaseWriter)
    }
    - {writers.CaseWriter},
    key=lambda kind: kind.__name__,
)


def test_writers_are_left_out_and_building_them_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, last = Identityd("pred"), dict
    built = [kind(keys="pred", output_dir="out", **ARGUMENTS.get(kind.__name__, {})) for kind in WRITERS]
    assert len(built) >= 9  # the eight of earlier bundles, and the one of today's
    assert without_writers(Compose([first, *built, last])) == [first, last]
    assert without_writers([*built, first]) == [first]
    assert not list(tmp_path.iterdir())
