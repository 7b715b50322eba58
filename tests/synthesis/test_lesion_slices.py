"""Training items: the same whatever draws them, and labels that lie where the network's map does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from torch import nn

from monai_zsad.errors import ConfigurationError
from monai_zsad.networks import AACLIP
from monai_zsad.networks.adapters import split_subpatches
from monai_zsad.prompts import concepts
from monai_zsad.synthesis import LesionSettings, LesionSlices, PrepareAnatomy, paint_lesions
from monai_zsad.synthesis import lesion_slices as module
from monai_zsad.synthesis.contrast import random_contrast
from monai_zsad.synthesis.slabs import cut_slab
from monai_zsad.training import ResumableSampler

SIZE, PATCH, PARTS = 64, 8, 4
SIDE = SIZE // PATCH


def volume() -> dict[str, Any]:
    """Two sequences of an uneven ball, with a lesion that is known."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, 36)] * 3, indexing="ij")
    inside = (torch.stack(axes).square().sum(0) < 0.8).float()
    t1 = inside * (0.5 + 0.2 * axes[0] + 0.03 * torch.randn(inside.shape, generator=generator))
    images = MetaTensor(torch.stack([t1, inside * 0.8 - 0.5 * t1]), affine=np.diag([3.0, 3.0, 3.0, 1.0]))
    known = torch.zeros(1, 36, 36, 36)
    known[:, 15:24, 14:22, 14:22] = 1
    return {"anatomy": PrepareAnatomy(depth_mm=6)(images, known)}


VOLUME = volume()


def slices(length: int = 8, **options: Any) -> LesionSlices:
    defaults: dict[str, Any] = {"image_size": SIZE, "patch_size": PATCH, "subpatches": PARTS, "windows": 3, "window": 4}
    return LesionSlices([VOLUME], length, **(defaults | options))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_an_item_is_what_it_says() -> None:
    data = slices(12, easy_items=0)
    lesions = 0
    for index in range(12):
        item = data[index]
        assert item["image"].shape == (3, SIZE, SIZE)
        assert 0 <= item["image"].min() <= item["image"].max() <= 1
        assert item["tokens"].shape == (3, 16)
        assert item["tokens"].dtype == torch.int64
        assert item["label"].shape == (3, 16, PARTS**2, len(concepts()))
        assert item["weight"].shape == (3, 16, PARTS**2, 1)
        assert 0 <= item["label"].min() <= item["label"].max() <= 1
        weight = item["weight"][..., 0]
        assert ((weight == 0) | ((weight >= 1) & (weight <= 3))).all()
        rows, columns = item["tokens"].reshape(3, 4, 4) // SIDE, item["tokens"].reshape(3, 4, 4) % SIDE
        assert 0 <= item["tokens"].min() <= item["tokens"].max() < SIDE**2
        assert (rows.diff(dim=1) == 1).all()
        assert (columns.diff(dim=2) == 1).all()
        assert (rows.diff(dim=2) == 0).all()
        # What has all attributes of a narrow concept has those of the wide one.
        names = list(concepts())
        wide, narrow = names.index("hyperintense"), names.index("small_hyperintense")
        assert (item["label"][..., narrow] <= item["label"][..., wide]).all()
        assert (item["label"][..., wide] <= item["label"][..., 0]).all()
        lesions += bool(item["label"].any())
    assert lesions >= 7


def test_items_do_not_depend_on_order_workers_or_process() -> None:
    forwards = [slices()[1, index] for index in range(8)]
    data = slices()
    backwards = [data[1, index] for index in reversed(range(8))][::-1]
    assert all(same(one, other) for one, other in zip(forwards, backwards, strict=True))
    assert not same(forwards[0], data[0, 0])
    assert same(data[3], data[0, 3])
    sampler = ResumableSampler(data, shuffle=False)
    sampler.set_epoch(1)
    sampler.skip = 2
    for number, batch in enumerate(DataLoader(data, batch_size=2, sampler=sampler, num_workers=2)):
        for place in range(2):
            item = {key: value[place] for key, value in batch.items()}
            assert same(item, forwards[2 + 2 * number + place])


def test_two_in_a_row_share_a_slab() -> None:
    cut = []

    def seen(*arguments: Any) -> Any:
        cut.append(cut_slab(*arguments))
        return cut[-1]

    data = slices(4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "cut_slab", seen)
        items = [data[index] for index in range(3)]
        again = slices(4)[1]
    first, second, alone = cut
    np.testing.assert_array_equal(first.images, alone.images)
    assert not np.array_equal(first.images, second.images)
    assert not torch.equal(items[0]["image"], items[1]["image"])
    assert same(items[1], again)


def test_labels_are_those_of_the_mask_and_weights_leave_out_what_is_known() -> None:
    painted, cut = [], []

    def seen_paint(*arguments: Any, **options: Any) -> Any:
        painted.append((paint_lesions(*arguments, **options), arguments[2], options["places"]))
        return painted[-1][0]

    def seen_slab(*arguments: Any) -> Any:
        cut.append(cut_slab(*arguments))
        return cut[-1]

    data = slices(6, empty=0.0, easy_items=0, small_weight=3.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "paint_lesions", seen_paint)
        patch.setattr(module, "cut_slab", seen_slab)
        items = [data[index] for index in range(6)]
    names = list(concepts())
    step = PATCH // PARTS
    left_out = 0
    heavy = 0
    for number, (item, (found, tissue, places)) in enumerate(zip(items, painted, strict=True)):
        slab_ = cut[number // 2]
        body, allowed, doubtful = slab_.masks
        labels = found.labels[..., 1]
        areas = np.bincount(labels.ravel()) * slab_.spacing[0] * slab_.spacing[1]
        importance = np.sqrt(50 / np.maximum(areas, 1e-3)).clip(1, 3)
        importance[0] = 1
        assert not (tissue & ~body).any()
        assert not places[doubtful | ~allowed].any()
        bits = found.attribute_masks()[..., 1]
        unsure = doubtful[..., 1] & (found.labels[..., 1] == 0)
        for window, tokens in enumerate(item["tokens"].tolist()):
            for place, token in enumerate(tokens):
                for part in range(PARTS**2):
                    top = token // SIDE * PATCH + part // PARTS * step
                    left = token % SIDE * PATCH + part % PARTS * step
                    pixels = np.s_[top : top + step, left : left + step]
                    label = item["label"][window, place, part]
                    assert float(label[names.index("lesion")]) == pytest.approx(bits[0][pixels].mean())
                    assert float(label[names.index("hypointense")]) == pytest.approx(bits[2][pixels].mean())
                    small = min(bits[1][pixels].mean(), bits[5][pixels].mean())
                    assert float(label[names.index("small_hyperintense")]) == pytest.approx(small)
                    weight = float(item["weight"][window, place, part])
                    wanted = 0 if unsure[pixels].any() else importance[labels[pixels]].max()
                    assert weight == pytest.approx(wanted)
                    left_out += weight == 0
                    heavy += weight > 1
    assert left_out
    assert heavy


def test_a_window_as_large_as_the_slice_is_the_slice() -> None:
    windows, whole = slices(easy_items=0), slices(easy_items=0, windows=1, window=SIDE)
    for index in range(8):
        part, item = windows[index], whole[index]
        assert torch.equal(item["tokens"], torch.arange(SIDE**2)[None])
        assert torch.equal(item["image"], part["image"])
        for key in ("label", "weight"):
            assert torch.equal(item[key][0][part["tokens"]], part[key])


def test_patches_without_body_weigh_less() -> None:
    options: dict[str, Any] = {"easy_items": 0, "windows": 1, "window": SIDE, "small_weight": 3.0}
    plain, lighter = slices(**options), slices(background_weight=0.2, **options)
    dark_ones = 0
    for index in range(8):
        one, other = plain[index], lighter[index]
        patches = one["image"][1].unflatten(0, (SIDE, PATCH)).unflatten(2, (SIDE, PATCH)).amax((1, 3))
        dark = (patches <= 0.03).flatten()
        torch.testing.assert_close(other["weight"][0, dark], 0.2 * one["weight"][0, dark])
        assert torch.equal(other["weight"][0, ~dark], one["weight"][0, ~dark])
        assert all(torch.equal(one[key], other[key]) for key in ("image", "label"))
        dark_ones += int(dark.sum())
        assert not dark.all()
    assert dark_ones > SIDE**2


def test_slices_can_be_made_to_look_like_flair(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def seen(channels: np.ndarray, rng: np.random.Generator, strength: float, flair: float) -> np.ndarray:
        asked.append((strength, flair))
        return random_contrast(channels, rng, strength, flair)

    monkeypatch.setattr(module, "random_contrast", seen)
    options: dict[str, Any] = {"easy_items": 0, "empty": 1.0, "varied": 0.0}
    found, plain = slices(flair=1.0, **options), slices(**options)
    assert not any(torch.equal(found[index]["image"], plain[index]["image"]) for index in range(4))
    assert set(asked) == {(1.0, 1.0), (1.0, 0.0)}


def test_extracted_heads_have_nothing_around_the_places_for_lesions() -> None:
    sizes: dict[str, Any] = {"image_size": SIZE, "patch_size": PATCH, "window": 4}
    plain, extracted = (LesionSlices([VOLUME | extra], 8, **sizes) for extra in ({}, {"extracted": 1.0}))
    smaller = 0
    for number in range(4):
        (whole, _), (part, bare) = plain._slab(number), extracted._slab(number)
        assert bare
        outside = ~part.masks[0]
        assert not part.images[:, outside].any()
        assert not (part.masks[1:] & outside).any()
        assert not (part.masks[0] & ~whole.masks[0]).any()
        smaller += part.masks[0].sum() < whole.masks[0].sum()
    assert smaller == 4


def test_parts_are_ordered_as_the_networks() -> None:
    data = slices()
    grid = torch.arange((SIDE * PARTS) ** 2, dtype=torch.float32).reshape(1, SIDE * PARTS, SIDE * PARTS)
    grid = torch.cat([grid, -grid])
    by_token = data._by_token(grid)
    assert by_token.shape == (SIDE**2, PARTS**2, 2)
    for token, part in ((0, 0), (0, 5), (9, 3), (SIDE**2 - 1, PARTS**2 - 1)):
        row, column = token // SIDE * PARTS + part // PARTS, token % SIDE * PARTS + part % PARTS
        assert by_token[token, part].tolist() == grid[:, row, column].tolist()
    joined = split_subpatches(by_token.flatten(1)[None], SIDE, PARTS)
    torch.testing.assert_close(joined[0], grid.flatten(1).T)


class _Planted(nn.Module):
    """In place of the projection: features like the abnormal anchor at some parts, like the normal one elsewhere."""

    def __init__(self, label: torch.Tensor, anchors: torch.Tensor) -> None:
        super().__init__()
        self.features = anchors[label.long()].flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features.expand(len(x), -1, -1)


@torch.no_grad()
def test_the_networks_map_lies_where_the_label_does() -> None:
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": SIZE, "layers": 1, "width": 64, "patch_size": PATCH},
        "text_cfg": {"width": 32, "heads": 1, "layers": 1},
    }
    network = AACLIP(
        config, None, domain="none", levels=[1], image_blocks=0, text_blocks=0, subpatches=PARTS, score="map"
    )
    network.load_weights(clip="seed:0", image_adapter="seed:1", text_adapter="seed:1")
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, 10:20, 34:38] = 1
    mask[:, 50:52, 6:16] = 1
    step = PATCH // PARTS
    label = slices()._by_token(nn.functional.avg_pool2d(mask, step))[..., 0]
    network.image_adapter.seg_proj[0] = _Planted(label, network.text_anchors[0])
    found = network(torch.rand(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))[:, 0]
    middle = (found.amax() + found.amin()) / 2
    for anomaly_map in found:
        above = anomaly_map > middle
        dice = 2 * (above * mask[0]).sum() / (above.sum() + mask.sum())
        assert dice > 0.9
        # No shift: the centres agree to a fraction of a pixel.
        torch.testing.assert_close(above.nonzero().float().mean(0), mask[0].nonzero().float().mean(0), atol=0.3, rtol=0)


def test_lesions_begin_clear() -> None:
    data = slices(lesions=LesionSettings(radius_mm=(1, 10), contrast=(0.1, 0.6)))
    assert data._settings(1.0) == data.lesions
    first = data._settings(0.0)
    assert first.contrast == pytest.approx((0.3, 0.6))
    assert first.radius_mm == pytest.approx((3, 10))


def test_empty_slices_and_chosen_concepts() -> None:
    data = slices(3, empty=1.0, names=["lesion", "ring"])
    assert all(item["label"].shape[-1] == 2 and not item["label"].any() for item in map(data.__getitem__, range(3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 60}, "image_size=60"),
        ({"subpatches": 3}, "subpatches=3"),
        ({"window": 9}, "window=9"),
        ({"names": ["lesion", "fracture"]}, "fracture.*choose from lesion"),
    ],
)
def test_what_does_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        slices(**options)


def test_no_volume_and_no_such_item() -> None:
    with pytest.raises(ConfigurationError, match="volumes is empty"):
        LesionSlices([], 1, image_size=SIZE, patch_size=PATCH, window=4)
    for index in (8, -1, (0, 8)):
        with pytest.raises(IndexError):
            slices()[index]
