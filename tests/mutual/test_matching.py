from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_zsad.errors import InputError
from monai_zsad.mutual.matching import Kind, body_heights, choose_others, contrast_of, nearest_slices, scan_kind
from monai_zsad.synthesis.phantoms.files import write_phantom
from monai_zsad.synthesis.phantoms.head import phantom_head


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sub-01_ses-2_FLAIR", "flair"),
        ("Ax T2 FLAIR", "flair"),
        ("BraTS_001_t1ce", "t1_contrast"),
        ("T1 post GD", "t1_contrast"),
        ("t1w_mprage", "t1"),
        ("patient_t2", "t2"),
        ("ep2d_diffusion", "dwi"),
        ("thorax", ""),
        ("ct2", ""),
    ],
)
def test_contrasts_in_names(text: str, expected: str) -> None:
    assert contrast_of(text) == expected


def test_a_kind_keeps_no_text_of_the_name() -> None:
    kind = scan_kind(["/scans/DOE_JANE_FLAIR.nii.gz"], "mr", "percentiles 1 to 99 (3 to 90)", ["axial"], 1)
    assert kind == Kind("MR", "flair", "", "percentiles 1 to 99", ("axial",), 1)
    assert "DOE" not in kind.as_json()
    assert Kind.from_json(kind.as_json()) == kind


def test_dicom_tells_modality_and_contrast(tmp_path: Path) -> None:
    series = write_phantom(phantom_head((24, 28, 3), (8.0, 8.0, 40.0)), tmp_path / "series")
    kind = scan_kind(sorted(series.iterdir()))
    assert (kind.modality, kind.contrast) == ("MR", "flair")


def test_heights_do_not_depend_on_empty_slices_and_spacing() -> None:
    def body(before: int, slices: int, after: int) -> torch.Tensor:
        volume = torch.zeros(1, 12, 12, before + slices + after)
        volume[:, 3:9, 3:9, before : before + slices] = 1.0
        return volume

    one = body_heights(body(2, 5, 4), 2, torch.tensor([2, 4, 6]))
    other = body_heights(body(0, 9, 3), 2, torch.tensor([0, 4, 8]))
    assert one.tolist() == other.tolist() == [0.0, 0.5, 1.0]
    assert body_heights(body(2, 5, 4), 2, torch.tensor([1]))[0] < 0
    assert body_heights(body(1, 1, 1), 2, torch.tensor([1])).tolist() == [0.5]


def test_a_head_rest_is_not_the_end_of_the_body() -> None:
    volume = torch.zeros(1, 24, 24, 8)
    volume[:, 2:22, 2:22, 2:] = 1.0
    volume[:, 11:13, 11:13, :2] = 1.0
    assert body_heights(volume, 2, torch.tensor([2, 7])).tolist() == [0.0, 1.0]


def test_nearest_slices() -> None:
    heights = torch.tensor([0.0, 0.2, 0.4, 0.6])
    assert nearest_slices(0.35, heights, 3) == [1, 2, 3]
    assert nearest_slices(-1.0, heights, 2) == [0, 1]
    assert nearest_slices(0.5, heights, 9) == [0, 1, 2, 3]


def test_choice_of_others() -> None:
    scans = {f"s{number}": torch.tensor([1.0, number / 10]) for number in range(8)}
    chosen = choose_others("s3", scans, 3)
    assert len(chosen) == 3
    assert "s3" not in chosen
    assert chosen == choose_others("s3", dict(reversed(scans.items())), 3)
    assert choose_others("s0", scans, 2, "nearest") == ["s1", "s2"]
    assert len(choose_others("s0", scans, 20)) == 7
    with pytest.raises(InputError, match="no other scan"):
        choose_others("s0", {"s0": scans["s0"]}, 3)
