"""AUPRO the slow way: a mask at each of a series of thresholds, and a look at every region of every image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from skimage.measure import label, regionprops


class Points(NamedTuple):
    """False positive rate and per-region overlap, each (T,), from the highest threshold down."""

    rates: np.ndarray
    overlaps: np.ndarray


def threshold_points(maps: np.ndarray, masks: np.ndarray, steps: int = 200, *, label_once: bool = False) -> Points:
    """Points at thresholds evenly over the range of the scores, each the mask of what is above.

    Args:
        maps: (N, H, W).
        masks: (N, H, W), 0 or 1.
        steps: number of thresholds.
        label_once: find the regions once in place of at each threshold, which released code does.
    """
    low, high = float(maps.min()), float(maps.max())
    kept = [regionprops(label(mask)) for mask in masks] if label_once else None
    points = []
    for step in reversed(range(steps)):
        above = maps > low + (high - low) / steps * step
        overlaps = []
        for number, (image, mask) in enumerate(zip(above, masks, strict=True)):
            for region in kept[number] if kept else regionprops(label(mask)):
                rows, columns = region.coords.T
                overlaps.append(image[rows, columns].mean())
        points.append((above[masks == 0].mean(), np.mean(overlaps)))
    return Points(*np.array(points).T)


def slow_aupro(points: Points, limit: float = 0.3) -> tuple[float, float]:
    """Area up to the limit over the limit, and how far it may be from the exact one.

    Overlap and rate both rise as thresholds fall, so between two points the curve lies in the rectangle that they
    span, and a straight line is off by half its area at most.
    """
    rates = np.concatenate([[0.0], points.rates, [1.0]])
    overlaps = np.concatenate([[0.0], points.overlaps, [1.0]])
    inside = np.minimum(rates, limit)
    widths, heights = np.diff(inside), np.diff(overlaps)
    full = np.diff(rates)
    part = np.divide(widths, full, out=np.zeros_like(widths), where=full > 0)
    area = widths * (overlaps[:-1] + heights * part / 2)
    # Where the limit cuts a rectangle, the line is cut short and may be off by more.
    off = widths * heights * np.where(part < 1, 1.0, 0.5)
    return float(area.sum() / limit), float(off.sum() / limit)


def released_aupro(points: Points, limit: float = 0.3) -> float:
    """As released: the area below the limit, its rates stretched to [0, 1]."""
    kept = points.rates < limit
    rates, overlaps = points.rates[kept], points.overlaps[kept]
    stretched = (rates - rates.min()) / (rates.max() - rates.min())
    return float(np.sum(np.diff(stretched) * (overlaps[1:] + overlaps[:-1]) / 2))


def random_set(count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps (N, H, W) of float32 in [0, 1] and masks of uint8 with discs of many sizes; one image in four is normal."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, size, size), dtype=np.uint8)
    rows, columns = np.ogrid[:size, :size]
    for number in range(count):
        for _ in range(0 if number % 4 == 3 else rng.integers(1, 6)):
            row, column = rng.integers(0, size, 2)
            radius = rng.uniform(1, size / 8)
            masks[number] |= (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    strength = rng.uniform(0, 1.5, (count, 1, 1))
    logits = rng.normal(size=masks.shape) + strength * 2 * masks - 1
    return (1 / (1 + np.exp(-logits))).astype(np.float32), masks
