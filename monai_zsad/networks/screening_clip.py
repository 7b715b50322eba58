"""A small CLIP that is trained from scratch: convolutions for detail, a ViT for context, prompts as in AA-CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import nn

from monai_zsad.backbones import Activation
from monai_zsad.backbones.architectures import clip_configuration
from monai_zsad.backbones.seeds import parse_seed, seeded_state_dict
from monai_zsad.backbones.vision import VisionRequest, run_blocks
from monai_zsad.backbones.weights import WeightsRecord, read_state_dict, sha256_of
from monai_zsad.errors import ConfigurationError, WeightsError
from monai_zsad.networks.aaclip import AACLIP
from monai_zsad.networks.maps import gaussian_weights, l2_normalize, smooth, smoothing_matrix

__all__ = ["ScreeningCLIP"]


class ScreeningCLIP(AACLIP):
    """AA-CLIP's maps from a small CLIP that is trained from scratch, for slices with their neighbours.

    A plain ViT of this size learns too slowly which pixels are neighbours: after 1,600 steps it found only bright spots
    at the resolution of its tokens. Here convolutions before the patch embedding provide detail from the first step
    (Xiao et al.). CLIP's blocks give each patch its context, and further convolutions combine context and detail, as
    in U-Net. The text tower, the text anchors, the comparison with the prompts and the map are those of AA-CLIP. Its
    adapters are left out, because there is no trained CLIP to adapt.

    The convolutions get six channels: the slice; its two neighbours; the slice minus its local mean (sigma ``fine``)
    and the mean of the neighbours minus its local mean (sigma ``coarse``), both divided by their spread in the body;
    and the rank of each pixel among those of the body (histogram equalisation). So the contrast of a scan has little
    influence.

    Args:
        architecture: configuration of the small CLIP. Its patch size is a multiple of 4.
        image_size: side S of the input in pixels.
        detail: numbers of channels of the convolutions at half and at a quarter of the resolution.
        fine: sigma of the local mean of the slice, in pixels.
        coarse: sigma of the local mean of the neighbours, in pixels.
        foreground: pixels above this value belong to the body.
        **options: ``prompts``, ``score`` and ``activation`` of :class:`AACLIP`.

    Raises:
        ConfigurationError: if the patch size is not a multiple of 4, or an option cannot be used.

    References:
        Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021, arXiv 2106.14881; Ronneberger et
        al., "U-Net", MICCAI 2015.

    >>> config = {"embed_dim": 32, "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    ...           "text_cfg": {"width": 32, "heads": 1, "layers": 2}}
    >>> network = ScreeningCLIP(config)
    >>> network.normalize(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 6, 32, 32])
    """

    channels = 6

    def __init__(
        self,
        architecture: str | Mapping[str, Any],
        image_size: int | None = None,
        *,
        detail: tuple[int, int] = (32, 64),
        fine: float = 4.0,
        coarse: float = 12.0,
        foreground: float = 0.03,
        **options: Any,
    ) -> None:
        vision = clip_configuration(architecture)["vision_cfg"]
        depth, patch = int(vision["layers"]), int(vision["patch_size"])
        if patch % 4:
            raise ConfigurationError(f"patch_size={patch}: give a multiple of 4, since the convolutions halve twice")
        fixed: dict[str, Any] = {
            "domain": "none",
            "levels": [depth],
            "image_blocks": 0,
            "text_blocks": 0,
            "subpatches": patch // 2,
        }
        super().__init__(architecture, image_size, **fixed, **options)
        self.foreground = foreground
        half, quarter = (int(n) for n in detail)
        width, joint = self.clip.width, self.clip.embed_dim
        self.at_half = nn.Sequential(_convolution(self.channels, half, strides=2), _convolution(half, half))
        self.at_quarter = nn.Sequential(_convolution(half, quarter, strides=2), _convolution(quarter, quarter))
        self.clip.visual.conv1 = nn.Conv2d(quarter, width, patch // 4, stride=patch // 4, bias=False)
        self.from_context = nn.Sequential(_convolution(width + quarter, quarter), _convolution(quarter, quarter))
        self.from_quarter = nn.Sequential(_convolution(quarter + half, half), _convolution(half, half))
        # One feature for each pixel at half the resolution; AA-CLIP has one for each patch.
        self.image_adapter.seg_proj = nn.ModuleList([nn.Conv2d(half, joint, 1)])
        for name, sigma in (("fine_mean", fine), ("coarse_mean", coarse)):
            radius = min(round(3 * sigma), self.image_size - 1)
            matrix = smoothing_matrix(self.image_size, gaussian_weights(sigma, radius), "symmetric")
            self.register_buffer(name, matrix, persistent=False)
        self.fine_mean: torch.Tensor
        self.coarse_mean: torch.Tensor
        self.requires_grad_(False)
        self.eval()

    def load_weights(  # type: ignore[override]  # one file holds all weights
        self, *, model: str | Path, activation: Activation | None = None, download: bool = True
    ) -> dict[str, WeightsRecord]:
        """Load all weights and compute the text anchors.

        Args:
            model: file with a state dict, as a bundle's ``models/model.pt``, or ``"seed:N"``.
            activation: not used, since the network itself states it.
            download: not used, since this network has no registered weights.

        Raises:
            WeightsError: if the file is missing, damaged or does not fit.
        """
        del activation, download
        seed = parse_seed(model)
        if seed is not None:
            state = dict(self.state_dict()) | seeded_state_dict(dict(self.named_parameters()), seed)
            record = WeightsRecord(name=f"seed:{seed}", sha256="", licence="", activation=None, seed=seed)
        else:
            state = dict(read_state_dict(Path(model)))
            record = WeightsRecord(Path(model).name, sha256_of(Path(model)), "unknown", self.clip.activation)
        try:
            self.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise WeightsError(
                f"{model} does not fit this network ({str(error).splitlines()[-1].strip()}): set the architecture that "
                "it was trained with"
            ) from error
        self.update_text_anchors()
        self.restore_records({"model": record})
        return self.records

    def _towers(self) -> list[nn.Module]:
        return [*super()._towers(), self.at_half, self.at_quarter, self.from_context, self.from_quarter]

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """The six channels (B, 6, S, S) of (B, 3, S, S) in [0, 1]: the slice between its neighbours."""
        below, slices, above = images.float().unbind(1)
        neighbours = (below + above) / 2
        body = (slices > self.foreground).float()
        contrasts = [
            _contrast(image, body, matrix.float())
            for image, matrix in ((slices, self.fine_mean), (neighbours, self.coarse_mean))
        ]
        return torch.stack(
            [*((image - 0.4) / 0.25 for image in (slices, below, above)), *contrasts, _rank(slices, body)], dim=1
        )

    def features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (1, B, (S/2)^2, D) of the map's pixels and (B, D) of the image, as :meth:`AACLIP.features`."""
        grid, context = self.dense_features(images, self.clip.visual.positional_embedding[1:])
        det = l2_normalize(self.image_adapter.det_proj(context)).mean(1)
        return l2_normalize(grid.flatten(2).transpose(1, 2)).unsqueeze(0), det

    def dense_features(self, images: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the map's pixels (B, D, h/2, w/2), not normalised, and of the patches (B, N, W).

        Args:
            images: (B, 6, h, w), slices or windows of slices. h and w are multiples of the patch size.
            positions: (N, W) or (B, N, W), position embeddings of the patches.

        Returns:
            The features of the pixels and of the patches.
        """
        visual = self.clip.visual
        half = self.at_half(images.to(self.clip.vision_dtype))
        quarter = self.at_quarter(half)
        patches = visual.conv1(quarter)
        tokens = patches.flatten(2).transpose(1, 2) + positions.to(patches.dtype)
        first = (visual.class_embedding + visual.positional_embedding[0]).to(patches.dtype)
        x = visual.ln_pre(torch.cat([first.expand(tokens.shape[0], 1, -1), tokens], dim=1))
        (found,) = run_blocks(visual.transformer.resblocks, x, [VisionRequest()])
        context = visual.ln_post(found.tokens[:, 1:])
        grid = context.transpose(1, 2).unflatten(-1, patches.shape[-2:])
        coarse = self.from_context(torch.cat([_enlarged(grid, quarter), quarter], dim=1))
        fine = self.from_quarter(torch.cat([_enlarged(coarse, half), half], dim=1))
        return self.image_adapter.seg_proj[0](fine), context


def _convolution(inputs: int, outputs: int, strides: int = 1) -> nn.Module:
    return Convolution(2, inputs, outputs, strides=strides, norm="batch", act="relu", adn_ordering="NA", bias=False)


def _enlarged(grid: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(grid, like.shape[-2:], mode="bilinear", align_corners=False)


def _contrast(images: torch.Tensor, body: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Images (B, S, S) minus their local mean in the body, divided by the spread in the body; 0 outside the body."""
    mean = smooth(images * body, matrix) / smooth(body, matrix).clamp_min(0.05)
    difference = (images - mean) * body
    count = body.sum((1, 2), keepdim=True).clamp_min(1)
    spread = (difference.square().sum((1, 2), keepdim=True) / count).sqrt()
    return (difference / spread.clamp_min(0.01)).clamp(-5, 5)


def _rank(images: torch.Tensor, body: torch.Tensor, steps: int = 64) -> torch.Tensor:
    """Fraction of the body that is darker than each pixel of images (B, S, S) in [0, 1], scaled to [-1, 1].

    It is 0 outside the body. It comes from a histogram of ``steps`` bins with linear interpolation, since sorting
    cannot be exported to every runtime.
    """
    scaled = (images * steps).flatten(1).clamp(0, steps)
    values = scaled.floor().clamp(max=steps - 1)
    places = values.long()
    count = scaled.new_zeros(scaled.shape[0], steps).scatter_add(1, places, body.flatten(1))
    share = count / count.sum(1, keepdim=True).clamp_min(1)
    darker = share.cumsum(1) - share
    rank = darker.gather(1, places) + (scaled - values) * share.gather(1, places)
    return (2 * rank - 1).view_as(images) * body
