"""Slices for training: what is read, filled, cut, painted and varied."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.prompts import concepts
from monai_zsad.synthesis import ATTRIBUTES
from monai_zsad.training.slices.augment import random_geometry, vary_appearance, warp
from monai_zsad.training.slices.bank import NormalBank, without_pathology
from monai_zsad.training.slices.filled import fill_tumour, filled_slices
from monai_zsad.training.slices.paint import mix_sequences, paint_batch, vary_tissue
from monai_zsad.training.slices.tumours import (
    HeldOutSlices,
    TumourSlices,
    check_pathology,
    read_tumour_slices,
    read_tumour_volumes,
    tumour_labels,
)
from tests.training.toy import SIZE, filled_bank, head, tumour_slices, volume, write_tumours, write_volumes


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- tumours -------------------------------------------------------------------------------------------------------


def test_slices_of_image_files(tmp_path: Path) -> None:
    slices = read_tumour_slices(write_tumours(tmp_path / "t"), SIZE)
    assert slices.images.shape == slices.masks.shape == (15, SIZE, SIZE)
    assert slices.images.dtype == slices.masks.dtype == np.uint8
    assert set(slices.groups[slices.held_out]) == {4}
    assert set(slices.kinds) == {"meningioma", "glioma", "pituitary"}
    for image, mask in zip(slices.images, slices.masks, strict=True):
        inside = mask > 200
        assert inside.sum() > 40
        assert image[inside].mean() > image[(image > 20) & (mask == 0)].mean() + 60
    assert set(slices.kinds[slices.chosen(held_out=False, leave_out="glioma")]) == {"meningioma", "pituitary"}
    assert not slices.held_out[slices.chosen(held_out=False)].any()


def test_slices_of_volumes_are_upright(tmp_path: Path) -> None:
    slices = read_tumour_volumes(write_volumes(tmp_path / "v"), SIZE, held_out=[3])
    assert slices.groups.tolist() == [1, 1, 2, 2, 3, 3], "slices without a mask are left out"
    assert slices.held_out.tolist() == [False] * 4 + [True] * 2
    rows, columns = np.nonzero(slices.masks[0] > 127)
    # The tumour lies in front of the middle, on the side that radiologists see left: the file's axes say so.
    assert rows.mean() < SIZE / 2 - 2
    assert columns.mean() < SIZE / 2 - 5


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"index\.csv"):
        read_tumour_slices(tmp_path, SIZE)
    with pytest.raises(InputError, match="no volumes"):
        read_tumour_volumes(tmp_path, SIZE)
    folder = write_tumours(tmp_path / "t")
    next((folder / "mask").iterdir()).unlink()
    with pytest.raises(InputError, match="mask/"):
        read_tumour_slices(folder, SIZE)
    (write_volumes(tmp_path / "v") / "02.nii.gz").unlink()
    with pytest.raises(InputError, match="02_mask"):
        read_tumour_volumes(tmp_path / "v", SIZE)
    with pytest.raises(ConfigurationError, match="schwannoma"):
        check_pathology("stroke")


def labelled(level: float, side: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Labels and weights (S/2, S/2) of a square in grey tissue, by concept."""
    image, mask = torch.full((1, 1, 96, 96), 0.4), torch.zeros(1, 1, 96, 96)
    place = slice(48 - side // 2, 48 + side // 2)
    image[..., place, place], mask[..., place, place] = level, 1
    known = list(concepts().values())
    labels, weights = tumour_labels(image, mask, known)
    assert labels.shape == weights.shape == (1, 48, 48, len(known))
    return {concept.key: (labels[0, ..., n], weights[0, ..., n]) for n, concept in enumerate(known)}


def test_the_ring_around_a_tumour_does_not_count() -> None:
    found = labelled(0.8, 20)
    label, weight = found["lesion"]
    inside, far = slice(19, 29), 48 * 48 - 20**2
    assert (label[inside, inside] == 1).all()
    assert label.sum() == 100
    assert (weight[inside, inside] == 1).all()
    assert (weight == 0).sum() == 20**2 - 10**2, "10 pixels on each side"
    assert (weight == 1).sum() == far + 100
    for _, other in found.values():
        assert (other[weight == 0] == 0).all()


@pytest.mark.parametrize(
    ("level", "side", "present", "absent"),
    [
        (0.8, 40, {"lesion", "hyperintense", "large", "large_hyperintense"}, {"hypointense", "small_hyperintense"}),
        (0.1, 10, {"lesion", "hypointense", "small", "small_hypointense"}, {"large", "large_hypointense"}),
        (0.42, 20, {"lesion"}, set()),
    ],
)
def test_concepts_of_a_tumour(level: float, side: int, present: set[str], absent: set[str]) -> None:
    found = labelled(level, side)
    middle = {key: (float(label[24, 24]), float(weight[24, 24])) for key, (label, weight) in found.items()}
    assert {key for key, value in middle.items() if value == (1, 1)} == present
    assert absent <= {key for key, value in middle.items() if value == (0, 1)}
    # Mask and image do not tell.
    for key in ("ring", "diffuse", "calcified", "textured", "diffuse_hyperintense"):
        assert middle[key] == (0, 0)
        assert found[key][1][2, 2] == 1, "far away it is known"


def test_held_out_slices_for_validation() -> None:
    slices = tumour_slices()
    data = HeldOutSlices(slices)
    assert len(data) == slices.held_out.sum() == 2
    item = data[1]
    assert item["image"].shape == (3, SIZE, SIZE)
    assert item["label"].unique().tolist() == [-1, 0, 1]
    assert torch.equal(item["label"][0] == 1, torch.from_numpy(slices.masks[9]) > 127)
    assert len(HeldOutSlices(slices, every=2)) == 1
    assert len(HeldOutSlices(slices, slices.kinds[8])) == 1


# ---- filled --------------------------------------------------------------------------------------------------------


def test_a_tumour_is_replaced_by_the_other_side() -> None:
    plain, _ = head(192)
    image, mask = head(192, (90, 60))
    found = fill_tumour(image, mask.astype(np.uint8) * 255)
    assert found is not None
    filled, zone = found
    assert zone[mask].all()
    assert np.abs(filled.astype(int) - plain)[mask].max() < 12
    assert np.abs(image.astype(int) - plain)[mask].min() > 60
    away = ~zone
    np.testing.assert_allclose(filled[away], plain[away], atol=1)


def test_what_is_not_symmetric_is_not_filled() -> None:
    image, mask = head(192, (90, 95))  # on the axis
    assert fill_tumour(image, mask.astype(np.uint8) * 255) is None
    noise = np.random.default_rng(0).integers(20, 255, (192, 192)).astype(np.uint8)
    assert fill_tumour(noise, head(192, (90, 60))[1].astype(np.uint8) * 255) is None
    assert fill_tumour(image * 0, mask.astype(np.uint8) * 255) is None


def test_filled_slices_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [head(192, place) for place in ((90, 60), (90, 95), (80, 130))]
    masks = np.stack([mask for _, mask in pairs]).astype(np.uint8) * 255
    slices = TumourSlices(
        np.stack([image for image, _ in pairs]), masks, np.zeros(3, str), np.zeros(3), np.zeros(3) > 0
    )
    first = filled_slices(slices, tmp_path)
    assert first.origin.tolist() == [0, 2]
    monkeypatch.setattr("monai_zsad.training.slices.filled.fill_tumour", None)
    for one, other in zip(first, filled_slices(slices, tmp_path), strict=True):
        np.testing.assert_array_equal(one, other)


# ---- bank ----------------------------------------------------------------------------------------------------------


def test_an_interrupted_bank_is_filled_as_without_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = filled_bank(tmp_path / "whole")
    assert set(whole.facts[:, 0]) == {1, 3}
    assert (whole.facts[:, 1:3] > 0).all()
    assert (whole.images[whole.facts[:, 0] == 1, 1:] == 0).all()
    assert (whole.masks[:, 1] & 1).any((1, 2)).all()

    volumes = [volume(), volume(3, bare=True)]
    parts = NormalBank(volumes, 6, tmp_path / "parts", size=SIZE, slabs=whole.settings)
    parts.fill(1, 2)
    assert (parts.facts[:, 0] > 0).tolist() == [False, True] * 3
    again = NormalBank(volumes, 6, tmp_path / "parts", size=SIZE, slabs=whole.settings)
    cut, numbers = NormalBank._cut, list[int]()

    def counted(bank: NormalBank, number: int) -> None:
        numbers.append(number)
        cut(bank, number)

    monkeypatch.setattr(NormalBank, "_cut", counted)
    again.fill()
    assert numbers == [0, 2, 4]
    for name in ("images", "masks", "facts"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))


def test_banks_of_other_volumes_and_seeds_are_apart(tmp_path: Path) -> None:
    for settings in ({}, {"seed": 1}):
        filled_bank(tmp_path, 2, **settings)
    NormalBank([volume(level=0.5)], 2, tmp_path, size=SIZE)
    assert len(list(tmp_path.iterdir())) == 9


def test_banks_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        NormalBank([], 1, tmp_path, size=SIZE)
    with pytest.raises(ConfigurationError, match="more than 3"):
        NormalBank([volume(4)], 1, tmp_path, size=SIZE)


def test_records_without_a_pathology() -> None:
    records = [{"t1": "a.nii", "shows": "ms"}, {"t1": "b.nii"}]
    assert without_pathology(records, None) == without_pathology(records, "glioma") == records
    assert without_pathology(records, "ms") == records[1:]


# ---- painted -------------------------------------------------------------------------------------------------------


def painted(seed: int):
    rng = generator(seed)
    slabs = 0.4 + 0.05 * torch.rand(4, 3, SIZE, SIZE, generator=rng)
    body = torch.zeros(4, 3, SIZE, SIZE, dtype=torch.bool)
    body[..., 8:56, 8:56] = True
    body[3] = False
    slabs = slabs * body
    return slabs, body, paint_batch(slabs, body, body, torch.ones(4), torch.full((4,), 3.0), rng, empty=0.0)


def test_lesions_are_where_the_image_changed() -> None:
    counts = torch.zeros(len(ATTRIBUTES))
    for seed in range(12):
        slabs, body, found = painted(seed)
        assert ((found.images >= 0) & (found.images <= 1)).all()
        change = (found.images - slabs).abs()
        assert not change[~body].any()
        assert not found.attributes[3].any(), "there is no place"
        lesion = found.attributes[:, 0] > 0
        named = dict(zip(ATTRIBUTES, found.attributes.unbind(1), strict=True))
        assert change[:, 1][lesion].mean() > 5 * change[:, 1][~lesion].mean()
        assert (change[:, 1][lesion] > 0.02).float().mean() > 0.3
        assert torch.equal(named["hyperintense"] + named["hypointense"] + named["textured"], named["lesion"])
        assert not (named["small"] * named["large"]).any()
        bright = (named["hyperintense"] * (1 - named["ring"])) > 0
        if bright.any():
            assert (found.images - slabs)[:, 1][bright].mean() > 0
        assert (found.weight[:, 0][~lesion] == 1).all()
        assert found.weight.max() <= 4
        counts += (found.attributes > 0).flatten(2).any(2).sum(0)
    assert (counts > 0).all(), dict(zip(ATTRIBUTES, counts.tolist(), strict=True))
    again = painted(11)[2]
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))


def test_some_slabs_stay_without_a_lesion() -> None:
    slabs, body = torch.full((20, 3, 32, 32), 0.4), torch.ones(20, 3, 32, 32, dtype=torch.bool)
    ones = torch.ones(20)
    same = [
        (paint_batch(slabs, body, body, ones, ones, generator(1), empty=share).images == slabs).flatten(1).all(1).sum()
        for share in (0.0, 0.5, 1.0)
    ]
    assert same[0] == 0
    assert 3 < same[1] < 17
    assert same[2] == 20


def test_contrasts_of_sequences() -> None:
    """Fluid (dark on T1, bright on T2) is dark in many mixtures; slabs of one sequence keep theirs."""
    slabs = torch.zeros(60, 3, 3, 16, 16)
    for place, values in (
        (slice(4, 8), (0.2, 0.95, 0.2)),
        (slice(8, 12), (0.5, 0.5, 0.6)),
        (slice(12, 16), (0.8, 0.4, 0.8)),
    ):
        slabs[..., place] = torch.tensor(values).view(3, 1, 1, 1)
    slabs[30:, 1:] = 0
    counts = torch.tensor([3.0] * 30 + [1.0] * 30)
    mixed = mix_sequences(slabs, counts, generator())
    assert torch.equal(mixed[30:], slabs[30:, 0])
    assert (mixed[..., :4] == 0).all()
    fluid, grey, white = (mixed[:30, 1, 0, place] for place in (5, 9, 13))
    assert 5 < ((fluid < white) & (white < grey)).sum() < 25, "as on FLAIR"
    assert ((fluid > grey) & (grey > white)).any(), "as on T2"


def test_one_tissue_varies_and_the_others_stay() -> None:
    slabs = torch.full((8, 3, SIZE, SIZE), 0.2)
    slabs[..., 32:] = 0.8
    body = torch.ones_like(slabs, dtype=torch.bool)
    change = (vary_tissue(slabs, body, generator()) - slabs).abs()
    left, right = change[..., :32].flatten(1).amax(1), change[..., 32:].flatten(1).amax(1)
    assert torch.minimum(left, right).max() < 1e-3
    assert (torch.maximum(left, right) > 0.02).sum() > 2
    assert torch.equal(vary_tissue(slabs, ~body, generator()), slabs), "there is no tissue"


# ---- augmentation --------------------------------------------------------------------------------------------------


def test_geometry_moves_image_and_mask_alike() -> None:
    image, mask = head(SIZE, (20, 20))
    pair = [torch.from_numpy(one).float()[None, None].expand(20, 1, -1, -1) for one in (image, mask * 255.0)]
    matrices = random_geometry(20, generator())
    moved = [warp(one, matrices) for one in pair]
    inside = moved[1] > 250
    assert (inside.flatten(1).sum(1) > 20).sum() > 15
    assert moved[0][inside].min() > 200
    assert torch.unique(matrices, dim=0).shape[0] == 20
    unturned = random_geometry(200, generator(1), degrees=10.0, turned=0.0)
    angles = torch.rad2deg(torch.atan2(unturned[:, 1, 0].abs(), unturned[:, 1, 1].abs()))
    assert angles.max() < 11
    assert (unturned[:, :, :2].det() < 0).float().mean() == pytest.approx(0.5, abs=0.12), "half are mirrored"


def test_appearance_is_varied_within_bounds() -> None:
    image = torch.from_numpy(head(96)[0]).float()[None, None].expand(12, 3, -1, -1) / 255
    before = image.clone()
    found = [vary_appearance(image, generator(seed)) for seed in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert torch.equal(image, before)
    both = torch.cat([found[0], found[2]])
    assert ((both >= 0) & (both <= 1)).all()
    body = image[:1, :1].expand(24, 1, -1, -1) > 0.1
    means = torch.stack([one[:1][inside].mean() for one, inside in zip(both, body, strict=True)])
    assert means.std() > 0.03
    dark = both[:, :1][~body].view(24, -1).median(1).values
    assert (dark < 0.08).all(), "air stays dark"
    # Structure stays: the augmentation changes contrast, not anatomy.
    likeness = [float(torch.corrcoef(torch.stack([one[0].flatten(), before[0, 0].flatten()]))[0, 1]) for one in both]
    assert np.median(likeness) > 0.8


# ---- real data -----------------------------------------------------------------------------------------------------


def test_the_real_sets_have_these_forms(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "tumours_t1c"
    if not source.is_dir():
        pytest.skip("tumours_t1c is not in the development data")
    lines = (source / "index.csv").read_text().splitlines()
    chosen = lines[1::150]
    for name in ("image", "mask"):
        (tmp_path / name).mkdir()
        for line in chosen:
            shutil.copy(next((source / name).glob(f"{int(line.split(',')[0]):04d}.*")), tmp_path / name)
    (tmp_path / "index.csv").write_text("\n".join([lines[0], *chosen]))
    slices = read_tumour_slices(tmp_path, 96)
    assert len(slices.images) == len(chosen)
    assert (slices.masks > 127).any((1, 2)).all()
    assert set(slices.kinds) == {"meningioma", "glioma", "pituitary"}
    meningiomas = slices.kinds == "meningioma"
    pairs = list(zip(slices.images[meningiomas], slices.masks[meningiomas], strict=True))
    brighter = [image[mask > 127].mean() > image[(mask == 0) & (image > 20)].mean() for image, mask in pairs]
    assert np.mean(brighter) > 0.7, "they take up contrast agent"
