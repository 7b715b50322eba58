from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_zsad.errors import InputError
from monai_zsad.mutual.matching import Kind
from monai_zsad.mutual.store import FEATURES_FILE, FeatureStore
from tests.mutual.toy import body, inferer, keep, kept


def source(folder: Path, name: str, text: str = "voxels") -> str:
    file = folder / name
    file.write_text(text)
    return str(file)


def test_features_are_found_again(tmp_path: Path) -> None:
    file, own = source(tmp_path, "anna_t1.nii"), inferer()
    scan = body(slices=5, name=file)
    store = kept(tmp_path / "store", {"anna": scan}, own)
    assert store.holds("anna", file)
    found = store.read("anna")
    assert found.kind == Kind("MR", "t1", "", "as it is", ("axial",), 1)
    assert found.shape == (5, 2, 16, 3)
    assert found.heights.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.planes.tolist() == [0] * 5
    expected = own.extract(scan, torch.nn.Identity())["tokens"][0]
    assert expected.dtype is torch.float16
    assert all(torch.equal(found.tokens()(number), expected[number]) for number in range(5))
    assert found.input


def test_what_makes_features_incomplete(tmp_path: Path) -> None:
    file = source(tmp_path, "anna.nii")
    store = kept(tmp_path / "store", {"anna": body(name=file)}, inferer())
    assert not store.holds("ben", file)
    source(tmp_path, "anna.nii", "other voxels")
    assert not store.holds("anna", file)
    source(tmp_path, "anna.nii")
    assert store.holds("anna", file)
    features = store.folder / "anna" / FEATURES_FILE
    features.write_bytes(features.read_bytes()[:-1])
    assert not store.holds("anna", file)


def test_features_of_other_weights_and_settings_are_apart(tmp_path: Path) -> None:
    file, own = source(tmp_path, "anna.nii"), inferer()
    store = FeatureStore(tmp_path, {"weights": "one"}, {"plane": "axial"})
    keep(store, "anna", body(name=file), own)
    for model, settings in (("two", "axial"), ("one", "coronal")):
        other = FeatureStore(tmp_path, {"weights": model}, {"plane": settings})
        assert not other.holds("anna", file)
        with pytest.raises(InputError, match="anna: its features cannot be read"):
            other.read("anna")
    assert FeatureStore(tmp_path, {"weights": "one"}, {"plane": "axial"}).holds("anna", file)


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    store = kept(tmp_path, {"anna": body()}, inferer())
    (store.folder / "anna" / FEATURES_FILE).write_bytes(b"no features")
    with pytest.raises(InputError, match=r"remove .*anna and run again"):
        store.read("anna")
