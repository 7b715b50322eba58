from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.mutual.matching import Kind
from monai_zsad.mutual.references import References, coreset
from tests.mutual.toy import Network, body, inferer, kept

KIND = Kind("MR", "", "", "as it is", ("axial",), 1)


def made_from(share: float = 0.5) -> dict[str, Any]:
    return {"features": "key", "settings": {"degrees": [1, 3]}, "scans": ["a"], "share": share}


def references(folder: Path, count: int = 3, share: float = 0.5) -> References:
    own = inferer()
    scans = {}
    for number in range(count):
        file = folder / f"normal{number}.nii"
        file.write_text(f"scan {number}")
        scans[f"normal{number}"] = body(number, name=str(file))
    store = kept(folder / "store", scans, own)
    return References.write(
        folder / "bank.safetensors", [store.read(name) for name in scans], own.aggregated, made_from(share)
    )


def test_a_coreset_covers_all_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(5, 80, generator=generator)
    tokens = (centres[:, None] + 0.01 * torch.randn(5, 40, 80, generator=generator)).flatten(0, 1)
    assert sorted((coreset(tokens, 5) // 40).tolist()) == [0, 1, 2, 3, 4]
    assert coreset(tokens, 500).tolist() == list(range(200))


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_scan_is_compared_with_the_references(tmp_path: Path, share: float) -> None:
    bank, own = references(tmp_path, share=share), inferer()
    assert len(bank) == 3
    others = bank.compared(KIND, load=own.loaded)
    assert others[0].near(0.5, 0, 1)[0].shape == (2, 2, round(16 * share), 3)
    own.compare = lambda inputs: (None, others)
    normal, lesion = (own(body(9, lesion=one), Network())[:, 0].amax() for one in (False, True))
    assert lesion > 1.5 * normal


def test_the_scan_itself_is_left_out(tmp_path: Path) -> None:
    bank = references(tmp_path)
    known = [scan.input for scan in bank._scans]
    assert len(set(known)) == 3
    assert len(bank.compared(KIND, known[1])) == 2
    assert len(bank.compared(KIND, "another scan")) == 3


def test_references_of_another_kind_are_refused(tmp_path: Path) -> None:
    bank = references(tmp_path, count=1)
    other = Kind("CT", "", "", "as it is", ("axial",), 1)
    with pytest.raises(
        InputError, match=r"kind \(CT, as it is, axial slices\) to compare it with: the references are MR"
    ):
        bank.compared(other)
    with pytest.raises(InputError, match="the only reference of its kind is the scan itself"):
        bank.compared(KIND, bank._scans[0].input)


def test_references_of_other_weights_or_settings_are_refused(tmp_path: Path) -> None:
    bank = References(references(tmp_path).file)
    bank.check("key", {"degrees": [1, 3]})
    with pytest.raises(ConfigurationError, match="weights, or options that change the features"):
        bank.check("another key", {"degrees": [1, 3]})
    with pytest.raises(ConfigurationError, match="degrees"):
        bank.check("key", {"degrees": [1]})


def test_what_is_no_file_of_references(tmp_path: Path) -> None:
    file = tmp_path / "bank.safetensors"
    for content in (None, b"", b"text"):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(InputError, match="give a folder of normal scans"):
            References(file)
    store = kept(tmp_path / "store", {"anna": body()}, inferer())
    with pytest.raises(InputError, match="schema"):
        References(store.folder / "anna" / "features.safetensors")


def test_no_scan_makes_no_references(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one normal scan"):
        References.write(tmp_path / "bank.safetensors", [], inferer().aggregated, made_from())
