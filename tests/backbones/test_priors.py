from __future__ import annotations

import pytest
import timm
import torch

from monai_zsad.backbones import DensePrior, DINOv2Prior
from monai_zsad.errors import ConfigurationError, WeightsError

SMALL = "vit_small_patch14_reg4_dinov2"


def official_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's parameters under the names of DINOv2's own release, class position and mask token added."""
    out = {}
    for name, value in state.items():
        name = name.replace("reg_token", "register_tokens")
        out[name] = value
    zero_class = torch.zeros_like(out["pos_embed"][:, :1])
    out["pos_embed"] = torch.cat([zero_class, out["pos_embed"]], dim=1)
    out["mask_token"] = torch.zeros(1, out["cls_token"].shape[-1])
    return out


@pytest.fixture(scope="module")
def prior() -> DINOv2Prior:
    prior = DINOv2Prior(56, SMALL)
    prior.load_weights("seed:0")
    return prior


@torch.no_grad()
def test_features_are_timms_own(prior: DINOv2Prior) -> None:
    pictures = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    model = timm.create_model(SMALL, num_classes=0, img_size=56).eval()
    model.load_state_dict(prior.model.state_dict())
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = model.get_intermediate_layers((pictures - mean) / std, n=1, reshape=True, norm=True)[0]
    found = prior(pictures)
    assert found.shape == (2, 384, 4, 4)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert isinstance(prior, DensePrior)


@torch.no_grad()
def test_official_file_gives_the_same_features(prior: DINOv2Prior, tmp_path) -> None:
    torch.save(official_names(prior.model.state_dict()), tmp_path / "dinov2_vits14_reg4_pretrain.pth")
    other = DINOv2Prior(56, SMALL)
    record = other.load_weights(tmp_path / "dinov2_vits14_reg4_pretrain.pth")
    assert not record.meaningless
    pictures = torch.rand(1, 3, 56, 56)
    torch.testing.assert_close(other(pictures), prior(pictures), atol=1e-6, rtol=0)


def test_positions_follow_the_input_size(prior: DINOv2Prior, tmp_path) -> None:
    torch.save(official_names(prior.model.state_dict()), tmp_path / "prior.pth")
    larger = DINOv2Prior(84, SMALL)
    larger.load_weights(tmp_path / "prior.pth")
    assert larger(torch.zeros(1, 3, 84, 84)).shape == (1, 384, 6, 6)


def test_errors(prior: DINOv2Prior, tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="unknown to timm"):
        DINOv2Prior(56, "vit_nothing")
    with pytest.raises(ConfigurationError, match="not a multiple of the patch size 14"):
        DINOv2Prior(60, SMALL)
    torch.save({"cls_token": torch.zeros(1, 1, 384)}, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match=r"part\.pth.*do not fit"):
        DINOv2Prior(56, SMALL).load_weights(tmp_path / "part.pth")
