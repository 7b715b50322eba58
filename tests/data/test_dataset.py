from __future__ import annotations

import threading
import time

import pytest
from monai.data import DataLoader
from monai.transforms import LoadImaged

from monai_zsad.data import AheadLoader, ScanReader, ScreeningDataset, find_scans
from tests.data.samples import write_nifti


@pytest.fixture
def folder(tmp_path):
    for name, size in (("a", 8), ("b", 9), ("c", 10)):
        write_nifti(tmp_path / f"{name}.nii.gz", shape=(size, 8, 5))
    damaged = tmp_path / "b.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
def test_failed_items_pass_the_loader_in_order(folder, workers):
    load = LoadImaged(keys="image", reader=ScanReader(), ensure_channel_first=True)
    batches = list(DataLoader(ScreeningDataset(find_scans(folder), load), batch_size=1, num_workers=workers))
    assert [batch["case"] for batch in batches] == [["a"], ["b"], ["c"]]
    assert set(batches[1]) == {"case", "code", "error"}
    assert batches[1]["error"][0].startswith(f"{folder / 'b.nii.gz'}: damaged")
    assert batches[2]["image"].shape == (1, 1, 10, 8, 5)
    assert batches[2]["modality"] == [""]


def test_interrupt_passes():
    def interrupted(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ScreeningDataset([{"case": "a"}], interrupted)[0]


def test_record_without_case_is_named_by_its_index():
    def fail(record):
        raise ValueError("no\nway")

    assert ScreeningDataset([{}], fail)[0] == {"case": "0", "error": "ValueError: no"}


def test_a_case_that_does_not_pass_the_gate_is_not_loaded(folder):
    dataset = ScreeningDataset(find_scans(folder), LoadImaged(keys="image", reader=ScanReader()))
    dataset.gate = lambda case: case != "a"
    assert dataset[0] == {"case": "a", "error": "", "elsewhere": "true"}
    assert "image" in dataset[2]


class Counted:
    """Items that tell when they are made, and where."""

    def __init__(self, count, broken=None):
        self.count = count
        self.broken = broken
        self.made = []
        self.threads = set()

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index == self.broken:
            raise ValueError("no such item")
        self.made.append(index)
        self.threads.add(threading.get_ident())
        return {"index": index}


def test_one_item_ahead_and_no_more():
    items = Counted(5)
    for index, item in enumerate(AheadLoader(items, batch_size=1)):
        assert item["index"].tolist() == [index]
        wanted = list(range(min(index + 2, 5)))
        for _ in range(200):
            if items.made == wanted:
                break
            time.sleep(0.005)
        time.sleep(0.02)
        assert items.made == wanted
    assert index == 4
    assert threading.get_ident() not in items.threads


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_again_and_with_workers(workers):
    loader = AheadLoader(Counted(4), batch_size=1, num_workers=workers)
    for _ in range(2):
        assert [int(item["index"]) for item in loader] == [0, 1, 2, 3]
    assert len(loader) == 4
    next(iter(loader))


def test_what_loading_raises_reaches_the_caller():
    items = iter(AheadLoader(Counted(4, broken=2), batch_size=1))
    assert [int(next(items)["index"]) for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match="no such item"):
        next(items)
