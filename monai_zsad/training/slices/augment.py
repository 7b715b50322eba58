"""Random geometry and appearance of batches of slices: what differs between heads, scanners and programs.

MONAI's random transforms treat one image after the other. A step then waits for its data on two cores. Here each step
of the augmentation is one operation on the whole batch. All random numbers come from the given generator, so a batch
can be made again. Images are (B, C, H, W) in [0, 1], on the CPU; the channels of an image are treated alike, but for
noise.

References:
    Zhou et al., "Models Genesis", MICCAI 2019 (curves of brightness that need not be monotone); Isensee et al.,
    "nnU-Net", Nature Methods 2021 (resolution, blur, noise); Perez-Garcia et al., "TorchIO", CMPB 2021 (ghosts, bias
    field).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["column", "random_geometry", "uniform", "vary_appearance", "warp"]

# Darker pixels are not tissue.
_AIR = 0.02


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    """Uniform random numbers (count,) in [low, high)."""
    return low + (high - low) * torch.rand(count, generator=generator)


def column(values: torch.Tensor) -> torch.Tensor:
    """Values (B,) as (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def random_geometry(
    count: int, generator: torch.Generator, *, degrees: float = 20.0, turned: float = 0.1
) -> torch.Tensor:
    """Random rotations, sizes, proportions, mirrorings and shifts, as affine matrices (count, 2, 3) for :func:`warp`.

    Args:
        count: number of slices.
        generator: random generator.
        degrees: largest rotation to either side.
        turned: fraction that is turned by 90, 180 or 270 degrees besides, as slices of unknown orientation are.

    >>> random_geometry(4, torch.Generator().manual_seed(0)).shape
    torch.Size([4, 2, 3])
    """
    angle = (torch.rand(count, generator=generator) * 2 - 1) * degrees / 57.3
    quarters = torch.rand(count, generator=generator) < turned
    angle = angle + quarters.float() * torch.randint(1, 4, (count,), generator=generator) * 1.5708
    size = torch.exp((torch.rand(count, generator=generator) * 2 - 1) * 0.22)
    height = size * torch.exp((torch.rand(count, generator=generator) * 2 - 1) * 0.1)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    cosine, sine = angle.cos(), angle.sin()
    shift = (torch.rand(count, 2, generator=generator) * 2 - 1) * 0.1
    rows = [
        torch.stack([cosine / size * mirror, -sine / size, shift[:, 0]], 1),
        torch.stack([sine / height * mirror, cosine / height, shift[:, 1]], 1),
    ]
    return torch.stack(rows, 1)


def warp(images: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Images (B, C, S, S) after the affine maps (B, 2, 3) of :func:`random_geometry`; 0 outside of the image."""
    side = images.shape[-1]
    grid = F.affine_grid(matrices, [len(images), 1, side, side], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def vary_appearance(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images as another scanner, protocol or program shows them: (B, C, S, S) in [0, 1].

    In order: curve of brightness, bias field, gain, blur, resolution, display window, ghosts of motion, markers on the
    margin, noise.

    Args:
        images: (B, C, S, S) in [0, 1].
        generator: random generator.

    >>> vary_appearance(torch.rand(2, 3, 64, 64), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 64, 64])
    """
    count = len(images)
    body = (images > _AIR).float()
    x = _curves(images, generator)
    field = torch.randn(count, 1, 4, 4, generator=generator) * 0.18 * _one_each(count, generator)
    x = x * (1 + F.interpolate(field, x.shape[-2:], mode="bicubic", align_corners=True))
    gain = 0.75 + 0.45 * _one_each(count, generator)
    used = (_one_each(count, generator) < 0.5).float()
    x = x * (used * gain + 1 - used)
    if _happens(0.35, generator):
        x = _blur(x, float(0.4 + 1.0 * torch.rand((), generator=generator)))
    if _happens(0.25, generator):
        side = int(torch.randint(80, 170, (1,), generator=generator))
        coarse = F.interpolate(x, (side, side), mode="bilinear", antialias=True, align_corners=False)
        x = F.interpolate(coarse, x.shape[-2:], mode="bilinear", align_corners=False)
    x = _window(x, body, generator)
    if _happens(0.12, generator):
        parts = int(torch.randint(2, 5, (1,), generator=generator))
        strength = 0.12 * _one_each(count, generator) * (_one_each(count, generator) < 0.5)
        axis = int(torch.randint(2, 4, (1,), generator=generator))
        x = x + strength * torch.roll(x, x.shape[-1] // parts, dims=axis)
    if _happens(0.3, generator):
        x = _markers(x, body, generator)
    amplitude = 0.06 * _one_each(count, generator) ** 2
    noise = torch.randn(x.shape, generator=generator)
    everywhere = (_one_each(count, generator) < 0.4).float()
    return (x + amplitude * noise * torch.maximum(body, everywhere)).clamp(0, 1)


def _one_each(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(count, 1, 1, 1, generator=generator)


def _happens(chance: float, generator: torch.Generator) -> bool:
    return bool(torch.rand((), generator=generator) < chance)


def _curves(images: torch.Tensor, generator: torch.Generator, pieces: int = 8) -> torch.Tensor:
    """Images through random curves of straight pieces, most of them monotone, one for each image. 0 stays 0."""
    count = len(images)
    steps = torch.rand(count, pieces, generator=generator) ** 2 + 0.08
    curve = torch.cat([torch.zeros(count, 1), steps.cumsum(1) / steps.sum(1, keepdim=True)], 1)
    straight = torch.linspace(0, 1, pieces + 1).expand(count, -1)
    share = torch.rand(count, 1, generator=generator)
    curve = straight * (1 - share) + curve * share
    bent = (torch.rand(count, 1, generator=generator) < 0.12).float()
    bumps = bent * 0.35 * torch.randn(count, pieces + 1, generator=generator)
    bumps[:, 0] = 0
    curve = (curve + bumps).clamp(0, 1)
    scaled = images.clamp(0, 1) * pieces
    left = scaled.floor().clamp(max=pieces - 1).long()
    places = left.flatten(1)
    low, high = (curve.gather(1, places + k).view_as(images) for k in (0, 1))
    return low + (high - low) * (scaled - left)


def _blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    reach, channels = max(1, int(3 * sigma)), images.shape[1]
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).expand(channels, 1, 1, -1)
    rows = F.conv2d(F.pad(images, (reach, reach, 0, 0), mode="replicate"), weights, groups=channels)
    padded = F.pad(rows, (0, 0, reach, reach), mode="replicate")
    return F.conv2d(padded, weights.transpose(2, 3), groups=channels)


def _window(images: torch.Tensor, body: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A fifth of the images within a narrow display window, unless most of the body would be black or white."""
    count = len(images)
    low = 0.35 * _one_each(count, generator)
    width = 0.25 + 0.6 * _one_each(count, generator)
    seen = ((images - low) / width).clamp(0, 1) * (images > 0)
    ends = ((seen > 0.98) | (seen < 0.02)).float().mul(body).sum((1, 2, 3), keepdim=True)
    share = ends / body.sum((1, 2, 3), keepdim=True).clamp_min(1)
    return torch.where((_one_each(count, generator) < 0.2) & (share < 0.5), seen, images)


def _markers(images: torch.Tensor, body: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Small bright patterns on the background of a third of the images, as letters and markers are."""
    images, count, side = images.clone(), len(images), images.shape[-1]
    for number in torch.randperm(count, generator=generator)[: max(1, count // 3)].tolist():
        for _ in range(int(torch.randint(1, 9, (1,), generator=generator))):
            height, width = (int(v) for v in torch.randint(2, 9, (2,), generator=generator))
            top, left = (int(v) for v in torch.randint(0, side - 9, (2,), generator=generator))
            place = (slice(top, top + height), slice(left, left + width))
            if not body[number, 0][place].any():
                level = float(0.3 + 0.7 * torch.rand((), generator=generator))
                dots = torch.rand(height, width, generator=generator) < 0.7
                images[number][:, place[0], place[1]] = level * dots
    return images
