from __future__ import annotations

import pytest
from monai.data import DataLoader
from monai.transforms import LoadImaged

from monai_zsad.data import ScanReader, ScreeningDataset, find_scans
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
    assert batches[1]["code"] == ["damaged"]
    assert batches[1]["error"][0].startswith(f"{folder / 'b.nii.gz'}: ")
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
