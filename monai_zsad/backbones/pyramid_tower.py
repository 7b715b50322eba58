"""A vision tower with a convolutional encoder and features at half the resolution of the image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from monai_zsad.errors import ConfigurationError, did_you_mean

__all__ = ["PyramidTower"]


class PyramidTower(nn.Module):
    """Features of a timm encoder from all its levels, summed from the deepest to the finest, and details of the image.

    Each level of the encoder is brought to ``width`` channels. The sum starts at the deepest level. It is enlarged
    bilinearly and added to the next finer level. This is a feature pyramid network. MONAI has one too
    (``FeaturePyramidNetwork``), but it convolves every level and enlarges with the nearest neighbour, which takes more
    time and gives maps with steps.

    An encoder that was trained on photographs has few channels at half the resolution. It finds large lesions quickly
    and small ones late. Two convolutions on all channels of the input therefore add details at that level.

    Args:
        name: encoder of timm whose finest level has half the resolution of the image. It gets the first three channels.
        embed_dim: width D of the features, that of the text features.
        channels: number of channels C of the input, at least 3.
        width: number of channels of the sums.
        fine: number of channels at half the resolution.

    Raises:
        ConfigurationError: the encoder is unknown, or its finest level does not have half the resolution.

    References:
        Tan and Le, "EfficientNet", ICML 2019; Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.

    >>> tower = PyramidTower("tf_efficientnet_lite0", 16)
    >>> pixels, context = tower(torch.zeros(1, 6, 64, 64))
    >>> pixels.shape, context.shape
    (torch.Size([1, 16, 32, 32]), torch.Size([1, 320]))
    """

    def __init__(self, name: str, embed_dim: int, channels: int = 6, width: int = 48, fine: int = 32) -> None:
        super().__init__()
        import timm

        if name not in timm.list_models():
            hint = did_you_mean(name, timm.list_models(), listed=False)
            raise ConfigurationError(
                f"timm_model_name={name!r} is unknown to timm; {hint or 'give one such as tf_efficientnet_lite0'}"
            )
        self.encoder = timm.create_model(name, pretrained=False, features_only=True)
        info = self.encoder.feature_info
        if info.reduction()[0] != 2:
            raise ConfigurationError(
                f"timm_model_name={name!r}: its finest level has 1/{info.reduction()[0]} of the resolution; choose an "
                "encoder that has 1/2, such as tf_efficientnet_lite0"
            )
        self.coarsest = int(info.reduction()[-1])
        self.context_dim = int(info.channels()[-1])
        first, *others = info.channels()
        self.levels = nn.ModuleList([_convolution(first, fine), *(_convolution(count, width) for count in others)])
        self.detail = nn.Sequential(
            _convolution(channels, fine, 3, strides=2, act="relu"), _convolution(fine, fine, 3, act="relu")
        )
        self.from_detail = _convolution(fine, fine)
        self.smooth_coarse = _convolution(width, width, 3, act="relu")
        self.from_coarse = _convolution(width, fine)
        self.smooth_fine = _convolution(fine, fine, 3, act="relu")
        self.head = nn.Conv2d(fine, embed_dim, 1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of normalised images.

        Args:
            images: (B, C, S, S). S is a multiple of ``coarsest``.

        Returns:
            Features (B, D, S/2, S/2), not normalised, and the mean of the deepest level (B, ``context_dim``).
        """
        # Two thirds of the time of the other memory format on CPUs.
        images = images.to(self.head.weight.dtype).contiguous(memory_format=torch.channels_last)
        found = self.encoder(images[:, :3].contiguous(memory_format=torch.channels_last))
        total = self.levels[-1](found[-1])
        for level in range(len(found) - 2, 0, -1):
            finer = self.levels[level](found[level])
            total = finer + _enlarged(total, finer)
        finest = self.levels[0](found[0]) + self.from_detail(self.detail(images))
        total = F.relu(finest + _enlarged(self.from_coarse(self.smooth_coarse(total)), finest))
        return self.head(self.smooth_fine(total)), found[-1].mean((2, 3))

    def fold(self) -> None:
        """Merge each batch normalisation into the convolution before it, for inference on given weights.

        Features are the same up to rounding, in about three quarters of the time on a CPU. The state dict has other
        keys afterwards. timm and PyTorch fold single pairs only.
        """
        self.requires_grad_(False).eval()
        convolution: nn.Conv2d | None = None
        for name, part in list(self.named_modules()):
            if isinstance(part, nn.Conv2d):
                convolution = part
            elif isinstance(part, nn.BatchNorm2d) and convolution is not None:
                merged = fuse_conv_bn_eval(convolution, part)
                convolution.weight, convolution.bias = merged.weight, merged.bias
                parent, _, own = name.rpartition(".")
                setattr(self.get_submodule(parent), own, getattr(part, "act", nn.Identity()))


def _convolution(inputs: int, outputs: int, kernel: int = 1, *, strides: int = 1, act: str | None = None) -> nn.Module:
    return Convolution(
        2, inputs, outputs, kernel_size=kernel, strides=strides, norm="batch", act=act, adn_ordering="NA", bias=False
    )


def _enlarged(grid: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(grid, like.shape[-2:], mode="bilinear", align_corners=False)
