"""Contrasts and synthetic lesions for a batch of slabs at once.

:func:`monai_zsad.synthesis.paint_lesions` treats one scan at a time, with more shapes, and displaces tissue. Here every
step is one operation on the whole batch, so that a step of the training does not wait for its data.

Slabs are (B, 3, S, S) in [0, 1], the slice between its neighbours, on the CPU. All random numbers come from the given
generator.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from monai_zsad.synthesis import ATTRIBUTES
from monai_zsad.synthesis.lesions.model import LARGE_MM, SMALL_MM
from monai_zsad.training.slices.augment import column, uniform

__all__ = ["Painted", "mix_sequences", "paint_batch", "vary_tissue"]

# Least change of brightness that can be seen, and the part of a lesion that must show it.
_VISIBLE, _VISIBLE_SHARE = 0.02, 0.3
_SMALL_MM2, _LARGEST_WEIGHT = 50.0, 4.0


class Painted(NamedTuple):
    """Slabs with lesions.

    Attributes:
        images: (B, 3, S, S) in [0, 1].
        attributes: (B, 9, S, S) of 0 and 1: in the middle slice, the pixels of lesions with each of ``ATTRIBUTES``.
        weight: (B, 1, S, S): 1, and up to 4 in small lesions, which have few pixels.
    """

    images: torch.Tensor
    attributes: torch.Tensor
    weight: torch.Tensor


def mix_sequences(slabs: torch.Tensor, counts: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One contrast from registered sequences: one of them, a mixture like FLAIR, or any other mixture.

    In the mixture like FLAIR, fluid (bright on T2) is dark, and grey matter is brighter than white matter by an amount
    that differs from slab to slab. Other random mixtures: compare Billot et al., "SynthSeg", MedIA 2023.

    Args:
        slabs: (B, 3, 3, S, S): T1, T2, T1 with contrast agent. Slabs with one sequence have zeros in the others.
        counts: (B,), number of sequences of each slab: 1 or 3.
        generator: random generator.

    Returns:
        (B, 3, S, S) in [0, 1].
    """
    count, several = len(slabs), counts > 1
    chosen = (torch.rand(count, generator=generator) * counts).long().clamp(max=2)
    single = slabs[torch.arange(count), chosen]
    kind = torch.rand(count, generator=generator)
    t1, t2 = slabs[:, 0], slabs[:, 1]
    inside = t1 > 0.02
    limit, width = uniform(count, 0.62, 0.8, generator), uniform(count, 0.04, 0.1, generator)
    fluid = torch.sigmoid((t2 - column(limit)) / column(width))
    brain = inside & (fluid < 0.5)
    levels = torch.tensor([0.0, 1.0]).repeat(count, 1)
    for number in several.nonzero()[:, 0].tolist():
        values = t1[number][brain[number]][::7]
        if len(values) > 10:
            levels[number] = torch.quantile(values, torch.tensor([0.3, 0.8]))
    grey, white = (column(level) for level in levels.unbind(1))
    share = ((white - t1) / (white - grey).clamp_min(0.05)).clamp(-0.3, 1.2)
    base, slope, of_t2 = (uniform(count, *ends, generator) for ends in ((0.4, 0.7), (0.02, 0.3), (-0.1, 0.35)))
    soft = column(base) + column(slope) * share + column(of_t2) * (t2 - 0.4)
    flair = (1 - column(uniform(count, 0.8, 1.0, generator)) * fluid) * soft * inside
    flat = (torch.rand(count, generator=generator) < 0.3).float()
    level = column((flair * brain).flatten(1).sum(1) / brain.flatten(1).sum(1).clamp_min(1))
    kept = column(1 - flat * uniform(count, 0.1, 0.6, generator))
    flair = torch.where(brain, level + (flair - level) * kept, flair)

    weights = torch.rand(count, 3, 1, 1, 1, generator=generator) * 2 - 1
    weights = weights * (torch.arange(3) < counts[:, None]).view(count, 3, 1, 1, 1)
    mixture = (slabs * weights).sum(1)
    low = column(mixture.masked_fill(~inside, 9).flatten(1).amin(1))
    high = column(mixture.masked_fill(~inside, -9).flatten(1).amax(1))
    mixture = torch.where(inside, (mixture - low) / (high - low).clamp_min(1e-3), torch.zeros(()))
    other = torch.where(column(several & (kind >= 0.42) & (kind < 0.58)), mixture, single)
    return torch.where(column(several & (kind < 0.42)), flair, other).clamp(0, 1)


def vary_tissue(slabs: torch.Tensor, body: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Let the brightness of one tissue differ from place to place, as grey matter does on FLAIR: this is normal.

    Args:
        slabs: (B, 3, S, S) in [0, 1].
        body: (B, 3, S, S), bool. The tissue is what is as bright as a random pixel of it.
        generator: random generator.

    Returns:
        (B, 3, S, S) in [0, 1].
    """
    count = len(slabs)
    centers = torch.zeros(count)
    for number in range(count):
        values = slabs[number, 1][body[number, 1]]
        if len(values):
            centers[number] = values[int(torch.randint(len(values), (1,), generator=generator))]
    width = uniform(count, 0.06, 0.15, generator)
    member = torch.exp(-(((slabs - column(centers)) / column(width)) ** 2)) * body
    strength = uniform(count, 0, 0.12, generator) * (torch.rand(count, generator=generator) < 0.7)
    return (slabs + column(strength) * member * _noise(count, slabs.shape[-1], 5, generator)).clamp(0, 1)


def paint_batch(
    slabs: torch.Tensor,
    body: torch.Tensor,
    places: torch.Tensor,
    pixel_mm: torch.Tensor,
    gap_mm: torch.Tensor,
    generator: torch.Generator,
    *,
    most: int = 5,
    empty: float = 0.2,
) -> Painted:
    """Paint up to ``most`` lesions into each slab.

    Lesions are distorted ellipsoids: focal, diffuse, rings, textured or like calcifications; some lie in clusters, and
    some only in a neighbour. They are brighter or darker than the tissue around them, or than all tissue of the slab.
    A lesion that cannot be seen is not marked.

    Args:
        slabs: (B, 3, S, S) in [0, 1].
        body: (B, 3, S, S), bool, where lesions can be seen.
        places: (B, 3, S, S), bool, places of their centres.
        pixel_mm: (B,), side of a pixel.
        gap_mm: (B,), distance of the neighbours.
        generator: random generator.
        most: largest number of lesions in a slab.
        empty: fraction of slabs without a lesion.
    """
    count, side = len(slabs), slabs.shape[-1]
    image = slabs
    attributes = torch.zeros(count, len(ATTRIBUTES), side, side)
    weight = torch.ones(count, 1, side, side)
    numbers = (torch.rand(count, generator=generator) * most).long() + 1
    numbers[torch.rand(count, generator=generator) < empty] = 0
    chances = F.avg_pool2d(places[:, 1:2].float(), 4).flatten(1) ** 2
    possible = chances.sum(1) > 0
    numbers = numbers * possible
    chances = chances + (~possible).float()[:, None]
    levels = torch.stack([_levels(one, where) for one, where in zip(slabs, body, strict=True)])
    clustered = torch.rand(count, generator=generator) < 0.15
    first: tuple[torch.Tensor, torch.Tensor] | None = None
    for number in range(most):
        drawn = number < numbers
        if not drawn.any():
            break
        first, radius, kind, distance = _shapes(chances, first, clustered, pixel_mm, gap_mm, side, generator)
        kinds = _kinds(kind)
        soft = uniform(count, 0.25, 0.6, generator)
        edge = torch.where(
            kinds["diffuse"], radius * soft, torch.minimum(uniform(count, 0.4, 2.0, generator), radius * 0.6)
        )
        alpha = torch.sigmoid((1 - distance) * column(radius / edge * 2.2)) * body.float() * column(drawn.float())
        profile, change, bright = _appearance(image, alpha, distance, radius, kinds, levels, generator)
        image = (image + profile * change).clamp(0, 1.15)

        hit = (alpha[:, 1] > 0.5) & drawn[:, None, None]
        seen = (profile * change).abs()[:, 1] > _VISIBLE
        share = (hit & seen).flatten(1).sum(1) / hit.flatten(1).sum(1).clamp_min(1)
        hit = hit & (share > _VISIBLE_SHARE)[:, None, None]
        plain = ~kinds["textured"]
        flags = {
            "lesion": torch.ones(count, dtype=torch.bool),
            "hyperintense": bright & plain,
            "hypointense": ~bright & plain,
            "small": radius < SMALL_MM,
            "large": radius > LARGE_MM,
            **kinds,
        }
        marks = torch.stack([flags[name] for name in ATTRIBUTES], 1)
        attributes = torch.where(hit[:, None], marks[:, :, None, None].float(), attributes)
        area = hit.flatten(1).sum(1) * pixel_mm**2
        more = (_SMALL_MM2 / area.clamp_min(1)).sqrt().clamp(1, _LARGEST_WEIGHT)
        weight = torch.where(hit[:, None], column(more), weight)
    return Painted(image.clamp(0, 1), attributes, weight)


def _levels(slab: torch.Tensor, body: torch.Tensor) -> torch.Tensor:
    """Darkest and brightest tissue (2,): percentiles 2 and 98."""
    if not body.any():
        return torch.tensor([0.0, 1.0])
    return torch.quantile(slab[body][::13], torch.tensor([0.02, 0.98]))


def _shapes(
    chances: torch.Tensor,
    first: tuple[torch.Tensor, torch.Tensor] | None,
    clustered: torch.Tensor,
    pixel_mm: torch.Tensor,
    gap_mm: torch.Tensor,
    side: int,
    generator: torch.Generator,
) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
    """Centre, around which clusters gather; radius; random number of the kind; distance, which is 1 at the surface."""
    count, cells = len(chances), side // 4

    def normal() -> torch.Tensor:
        return torch.randn(count, generator=generator)

    cell = torch.multinomial(chances, 1, generator=generator)[:, 0]
    row = (cell // cells).float() * 4 + uniform(count, 0, 4, generator)
    place = (cell % cells).float() * 4 + uniform(count, 0, 4, generator)
    radius = torch.exp(uniform(count, math.log(1.3), math.log(26.0), generator))
    kind = torch.rand(count, generator=generator)
    small = torch.rand(count, generator=generator) < 0.35
    radius = torch.where(small, torch.exp(uniform(count, math.log(1.2), math.log(5.0), generator)), radius)
    if first is not None and clustered.any():
        row = torch.where(clustered, first[0] + normal() * 12 / pixel_mm, row)
        place = torch.where(clustered, first[1] + normal() * 12 / pixel_mm, place)
        radius = torch.where(clustered, radius.clamp(max=4.0), radius)
    else:
        first = row, place
    depth = normal() * torch.minimum(radius * 0.4, gap_mm)
    beside = torch.rand(count, generator=generator) < 0.08
    sides = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    depth = torch.where(beside, gap_mm * sides, depth)

    angle = uniform(count, 0, math.pi, generator)
    cosine, sine = column(angle.cos()), column(angle.sin())
    axis = torch.arange(side, dtype=torch.float32)
    dy = (axis.view(1, 1, side, 1) - column(row)) * column(pixel_mm)
    dx = (axis.view(1, 1, 1, side) - column(place)) * column(pixel_mm)
    dz = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1) * column(gap_mm) - column(depth)
    long, wide, deep = (column(radius * torch.exp(0.28 * normal())) for _ in range(3))
    distance = ((dy * cosine + dx * sine) / long) ** 2 + ((dx * cosine - dy * sine) / wide) ** 2
    distance = (distance + (dz / deep) ** 2).sqrt()
    waves = torch.zeros(count, 1, side, side)
    for _ in range(3):
        direction = uniform(count, 0, 2 * math.pi, generator)
        frequency = 2 * math.pi / (radius * uniform(count, 0.7, 2.5, generator))
        along = column(frequency * direction.cos()) * dy + column(frequency * direction.sin()) * dx
        waves = waves + torch.sin(along + column(uniform(count, 0, 6.28, generator)))
    distance = distance + column(uniform(count, 0, 0.22, generator)) * waves * (distance > 0.05)
    return first, radius, kind, distance


def _kinds(kind: torch.Tensor) -> dict[str, torch.Tensor]:
    """Kinds of lesions by their random number in [0, 1): 14 % diffuse, 12 % rings, 8 % textured, 4 % calcified."""
    ends = {"diffuse": (0.0, 0.14), "ring": (0.14, 0.26), "textured": (0.26, 0.34), "calcified": (0.34, 0.38)}
    return {name: (kind >= low) & (kind < high) for name, (low, high) in ends.items()}


def _appearance(
    image: torch.Tensor,
    alpha: torch.Tensor,
    distance: torch.Tensor,
    radius: torch.Tensor,
    kinds: dict[str, torch.Tensor],
    levels: torch.Tensor,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Share of the lesion in each pixel, change of brightness in it, and whether it is bright.

    Calcifications are small: ``kinds["calcified"]`` is changed in place.
    """
    count, side = len(image), image.shape[-1]
    darkest, brightest = levels.unbind(1)
    span = (brightest - darkest).clamp_min(0.1)
    rim = column(uniform(count, 0.45, 0.85, generator))
    inner = torch.sigmoid((rim - distance) * column(radius / uniform(count, 0.5, 2.0, generator) * 2))
    sign = torch.where(torch.rand(count, generator=generator) < 0.6, 1.0, -1.0)
    calcified = kinds["calcified"] = kinds["calcified"] & (radius < 6)
    sign = torch.where(calcified, torch.where(torch.rand(count, generator=generator) < 0.5, 1.0, -1.0), sign)
    bright = sign > 0
    amount = uniform(count, 0.1, 0.65, generator) * torch.where(kinds["diffuse"], 0.7, 1.0)
    amount = torch.where(calcified, uniform(count, 0.6, 1.0, generator), amount) * span
    middle = alpha[:, 1]
    local = (middle * image[:, 1]).flatten(1).sum(1) / middle.flatten(1).sum(1).clamp_min(1e-3)
    extreme = torch.rand(count, generator=generator) < 0.3
    beyond = torch.where(bright, brightest - local + 0.05 * span, local - darkest).clamp_min(0)
    beyond = torch.maximum(amount, beyond * uniform(count, 0.6, 1.1, generator))
    amount = torch.where(extreme & ~kinds["diffuse"], beyond, amount)
    kept = uniform(count, 0.2, 1.1, generator)
    texture = _noise(count, side, 40, generator) * 0.6 + _noise(count, side, 90, generator) * 0.6
    rough, smooth = uniform(count, 0.8, 1.6, generator), uniform(count, 0.05, 0.4, generator)
    uneven = torch.where(kinds["textured"], rough, smooth)
    change = column(sign * amount) * (1 + column(uneven) * texture) + (1 - column(kept)) * (column(local) - image)
    change = torch.where(column(kinds["textured"]), column(amount) * texture * 1.2, change)
    core = column(uniform(count, -0.6, 1.0, generator))
    profile = torch.where(column(kinds["ring"]), alpha * (1 - inner * (1 - core * 0.5)), alpha)
    return profile, change, bright


def _noise(count: int, side: int, cells: int, generator: torch.Generator) -> torch.Tensor:
    """Smooth noise (count, 1, side, side) with standard deviation 1, from a grid of ``cells`` x ``cells``."""
    coarse = torch.randn(count, 1, cells, cells, generator=generator)
    noise = F.interpolate(coarse, (side, side), mode="bicubic", align_corners=False)
    return noise / column(noise.flatten(1).std(1).clamp_min(1e-3))
