"""A vision tower with a convolutional encoder and features at half the resolution of the image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import nn

from monai_zsad.errors import ConfigurationError, did_you_mean

__all__ = ["PyramidTower"]


class PyramidTower(nn.Module):
    """Features of a timm encoder from all its levels, summed from the deepest to the finest.

    Each level is brought to ``width`` channels. The sum starts at the deepest level. It is enlarged bilinearly and
    added to the next finer level. The two finest sums pass through a 3 x 3 convolution. This is a feature pyramid
    network. MONAI has one too (``FeaturePyramidNetwork``), but it convolves every level and enlarges with the nearest
    neighbour, which takes more time and gives maps with steps.

    Args:
        name: encoder of timm whose finest level has half the resolution of the image.
        embed_dim: width D of the features, that of the text features.
        width: number of channels of the sums.

    Raises:
        ConfigurationError: the encoder is unknown, or its finest level does not have half the resolution.

    References:
        Tan and Le, "EfficientNet", ICML 2019; Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.

    >>> tower = PyramidTower("tf_efficientnet_lite0", 16)
    >>> pixels, context = tower(torch.zeros(1, 3, 64, 64))
    >>> pixels.shape, context.shape
    (torch.Size([1, 16, 32, 32]), torch.Size([1, 320]))
    """

    def __init__(self, name: str, embed_dim: int, width: int = 48) -> None:
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
        self.levels = nn.ModuleList([_convolution(channels, width, 1) for channels in info.channels()])
        self.smooth = nn.ModuleList([nn.Sequential(_convolution(width, width, 3), nn.ReLU()) for _ in range(2)])
        self.head = nn.Conv2d(width, embed_dim, 1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of normalised images.

        Args:
            images: (B, 3, S, S). S is a multiple of ``coarsest``.

        Returns:
            Features (B, D, S/2, S/2), not normalised, and the mean of the deepest level (B, ``context_dim``).
        """
        # Two thirds of the time of the other memory format on CPUs.
        found = self.encoder(images.to(self.head.weight.dtype).contiguous(memory_format=torch.channels_last))
        total = self.levels[-1](found[-1])
        for level in range(len(found) - 2, -1, -1):
            finer = self.levels[level](found[level])
            total = finer + F.interpolate(total, finer.shape[-2:], mode="bilinear", align_corners=False)
            if level < len(self.smooth):
                total = self.smooth[level](total)
        return self.head(total), found[-1].mean((2, 3))


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Module:
    return Convolution(2, inputs, outputs, kernel_size=kernel, norm="batch", act=None, adn_ordering="N", bias=False)
