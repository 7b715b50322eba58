from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.inferers import SliceInferer
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.transforms import (
    BodyCropd,
    InPlaneSpacingd,
    ScanIntensityd,
    SquarePadd,
    UprightOrientationd,
    VolumeScored,
    volume_score,
)


def prediction(scores: list[float], spacing: float = 1.0, size: int = 6) -> MetaTensor:
    out = torch.zeros(2, size, size, len(scores))
    out[1] = torch.tensor(scores)
    out[0, 2, 2] = torch.tensor(scores) / 2
    return MetaTensor(out, affine=torch.diag(torch.tensor([1.0, 1.0, spacing, 1.0])).double())


def test_unfamiliarity_of_slices_and_of_the_case():
    pred = prediction([0.0, 0.2, 0.3, 0.4])
    told = torch.cat([pred, torch.zeros_like(pred[:1])])
    told[2] = torch.tensor([7.0, 0.5, 1.3, 1.7])
    data = VolumeScored()({"pred": told})
    assert [entry["unfamiliarity"] for entry in data["slice_scores"]] == [0.0, *told[2, 0, 0, 1:].tolist()]
    assert data["unfamiliarity"] == pytest.approx(1.3), "the slice that was skipped does not count"
    assert data["unfamiliar"] is True
    told[2, ..., 2] = 1.0
    assert VolumeScored()({"pred": told})["unfamiliar"] is False, "at the limit"
    plain = VolumeScored()({"pred": pred})
    assert {"unfamiliar", "unfamiliarity"}.isdisjoint({*plain, *plain["slice_scores"][1]})
    assert plain["volume_score"] == data["volume_score"]


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, 0.8),
        ({"k": 1}, 0.9),
        ({"k": 0.5}, 0.8),
        ({"k": 0.01}, 0.9),
        ({"k": 99}, 0.5),
        ({"method": "max"}, 0.9),
        ({"method": "mean"}, 0.5),
        ({"method": "quantile", "q": 0.5}, 0.5),
        ({"method": "quantile", "q": 1}, 0.9),
    ],
)
def test_methods(kwargs, expected):
    assert volume_score([0.1, 0.8, 0.3, 0.7, 0.9, 0.2], **kwargs) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 40))
def test_top_k_lies_between_mean_and_maximum(scores, k):
    value = volume_score(scores, k=k)
    assert np.mean(scores) - 1e-9 <= value <= max(scores) + 1e-9
    assert value == pytest.approx(volume_score(scores[::-1], k=k))


@pytest.mark.parametrize("kwargs", [{"method": "median"}, {"k": 0}, {"k": 1.0}, {"k": True}, {"k": -0.1}, {"q": 1.1}])
def test_bad_arguments(kwargs):
    with pytest.raises(ConfigurationError, match=next(iter(kwargs))):
        volume_score([0.5], **kwargs)
    with pytest.raises(ConfigurationError, match=next(iter(kwargs))):
        VolumeScored("pred", **kwargs)


def test_bad_scores():
    with pytest.raises(InputError, match="no slice was scored"):
        volume_score([])
    with pytest.raises(InputError, match="NaN"):
        volume_score([0.1, float("nan")])


@pytest.mark.parametrize(("spacing", "k"), [(1.0, 5), (3.0, 2), (5.0, 1), (8.0, 1)])
def test_default_number_of_slices_follows_the_spacing(spacing, k):
    scores = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4]
    out = VolumeScored()({"pred": prediction(scores, spacing)})
    assert out["volume_score"] == pytest.approx(np.mean(sorted(scores)[-k:]))
    assert out["volume_score_method"] == "top_k_mean"


def test_slices_are_listed_and_skipped_ones_do_not_count():
    pred = prediction([0.0, 0.5, 0.0, 0.25], spacing=3)
    pred[0, 1, 1, 2] = 0.1  # scored: its map is not empty
    out = VolumeScored(method="mean")({"pred": pred})
    assert out["volume_score"] == pytest.approx(0.25)
    assert [entry["scored"] for entry in out["slice_scores"]] == [False, True, True, True]
    assert [entry["score"] for entry in out["slice_scores"]] == pytest.approx([0, 0.5, 0, 0.25])
    assert [entry["slice"] for entry in out["slice_scores"]] == [0, 1, 2, 3]
    assert out["slice_scores"][3]["position_mm"] == [2.5, 2.5, 9]
    json.dumps(out["slice_scores"])
    json.dumps(out["volume_score"])


@pytest.mark.parametrize("channel", [0, 1])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_result_points_at_the_weights(channel, bad):
    pred = prediction([0.1, 0.2])
    pred[channel, 0, 0, 0] = bad
    with pytest.raises(InputError, match=r"non-finite values.*weights were not loaded"):
        VolumeScored()({"pred": pred})


def test_wrong_channels_empty_result_and_several_keys():
    with pytest.raises(InputError, match="anomaly map and slice score"):
        VolumeScored()({"pred": torch.zeros(1, 2, 2, 2)})
    with pytest.raises(InputError, match="no slice was scored"):
        VolumeScored()({"pred": prediction([0.0, 0.0])})
    with pytest.raises(ConfigurationError, match="one key"):
        VolumeScored(["a", "b"])
    with pytest.raises(ConfigurationError, match="span_mm"):
        VolumeScored(span_mm=0)


def test_geometry_of_another_scan_is_refused():
    pred = prediction([0.1] * 9)
    pred.meta["original_affine"], pred.meta["spatial_shape"] = np.eye(4), [6, 6, 5]
    with pytest.raises(InputError, match="slices 0 to 8 do not lie in"):
        VolumeScored()({"pred": pred})
    with pytest.raises(InputError, match="one grid"):
        VolumeScored(orig_keys="image")({"pred": prediction([0.1] * 9), "image": prediction([0.1] * 8)})
    lost = SquarePadd("pred")({"pred": prediction([0.1])})["pred"]
    with pytest.raises(InputError, match="lack 'original_affine'"):
        VolumeScored()({"pred": lost})


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("orig_keys", [None, "image"])
def test_slices_are_found_in_the_source_after_batching(tmp_path, plane, orig_keys):
    """Each source slice holds its own index; the network reads it back as the slice's score."""
    import nibabel as nib

    shape = (14, 18, 10)
    affine = np.array([[0, -1.2, 0, 40], [0, 0, 3, -20], [-0.9, 0, 0, 7], [0, 0, 0, 1.0]])
    axis = {"axial": 0, "coronal": 2, "sagittal": 1}[plane]
    ramp = np.moveaxis(np.broadcast_to(np.arange(1, shape[axis] + 1), (*np.delete(shape, axis), shape[axis])), -1, axis)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(ramp, dtype=np.float32), affine), tmp_path / "scan.nii.gz")

    def box(image):
        mask = torch.zeros_like(image)
        mask[:, 2:-2, 2:-3, 3:-2] = 1
        return mask

    before = Compose(
        [
            LoadImaged("image", reader="NibabelReader"),
            EnsureChannelFirstd("image"),
            UprightOrientationd("image", plane),
            BodyCropd("image", margin_mm=0, foreground=box),
            InPlaneSpacingd("image"),
            SquarePadd("image", value=0),
        ]
    )
    batch = list_data_collate([before({"image": str(tmp_path / "scan.nii.gz")})])

    def network(slices):
        score = slices.amax(dim=(1, 2, 3), keepdim=True).expand_as(slices)
        return torch.cat([slices, score], dim=1)

    size = batch["image"].shape[2:4]
    batch["pred"] = SliceInferer(roi_size=tuple(size), spatial_dim=2)(batch["image"], network)
    (data,) = decollate_batch(batch)
    out = VolumeScored(orig_keys=orig_keys)(data)
    listed = [entry["slice"] for entry in out["slice_scores"]]
    assert listed == [round(entry["score"]) - 1 for entry in out["slice_scores"]]
    assert len(listed) == shape[axis] - 5
    assert len(set(listed)) == len(listed)
    for entry in out["slice_scores"]:
        index = (np.linalg.inv(affine) @ [*entry["position_mm"], 1])[axis]
        assert index == pytest.approx(entry["slice"], abs=1e-3)


def test_intensity_record_survives_batching():
    image = MetaTensor(torch.rand(1, 8, 8, 8))
    batch = list_data_collate([ScanIntensityd("image")({"image": image})])
    (data,) = decollate_batch(batch)
    assert data["image"].meta["intensity"].startswith("percentiles")
