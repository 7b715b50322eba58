from __future__ import annotations

from pathlib import Path

import pytest

from monai_zsad.errors import ConfigurationError
from monai_zsad.workflow.cases.names import ORDERS, ordered


@pytest.fixture
def records(tmp_path: Path) -> list[dict]:
    for number, size in enumerate((5, 900, 20, 300)):
        (tmp_path / f"{number}").write_bytes(b"x" * size)
    files = [str(tmp_path / str(number)) for number in range(4)]
    images = [files[0], files[1], [files[2], files[3]], str(tmp_path / "gone")]
    return [{"case": f"case{number}", "image": image} for number, image in enumerate(images)]


def test_orders(records: list[dict]) -> None:
    assert ordered(records) == records
    assert [record["case"] for record in ordered(records, "size")] == ["case1", "case2", "case0", "case3"]
    many = [{"case": f"case{number}"} for number in range(50)]
    by_chance = ordered(many, "random")
    assert by_chance != many
    assert sorted(record["case"] for record in by_chance) == sorted(record["case"] for record in many)
    assert ordered(many[::-1], "random") == by_chance
    with pytest.raises(ConfigurationError, match=f"choose {', '.join(ORDERS)}"):
        ordered(records, "date")
