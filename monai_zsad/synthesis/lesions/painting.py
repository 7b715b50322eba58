"""Painting synthetic lesions into an image: shape, intensity relative to the surrounding tissue, and mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from monai_zsad.errors import ConfigurationError
from monai_zsad.synthesis.lesions.model import KINDS, LARGE_MM, SMALL_MM, Lesion, LesionedImage, LesionSettings
from monai_zsad.synthesis.lesions.shapes import ellipsoid, irregular, lobed, waves

__all__ = ["paint_lesions"]

# Texture finer than this belongs to the scan, not to the tissue.
_GRAIN_MM = 1.0


def paint_lesions(
    image: np.ndarray,
    spacing: Sequence[float],
    tissue: np.ndarray,
    count: int,
    rng: np.random.Generator,
    settings: LesionSettings | None = None,
    *,
    places: np.ndarray | None = None,
) -> LesionedImage:
    """Paint lesions into tissue.

    A lesion changes the image only inside its own box, which holds the lesion, the tissue that it displaces, and its
    fading border. Its mask holds the tissue voxels in which the lesion's share of the voxel is at least half of the
    largest share.

    Args:
        image: 2D or 3D, any units; not changed.
        spacing: mm between voxels along each axis.
        tissue: bool, where lesions may be visible.
        count: number of lesions; fewer are painted if there is no place for them.
        rng: random generator; the same state gives the same lesions.
        settings: appearance of the lesions.
        places: weights (0 or more) of each voxel as a centre of a lesion; default: the tissue.

    Returns:
        The image with lesions, their labels and descriptions.

    Raises:
        ConfigurationError: if shapes or spacing do not fit.

    >>> brain = np.full((32, 32, 8), 100.0)
    >>> brain[:16] = 50.0
    >>> found = paint_lesions(brain, (1, 1, 3), brain > 0, 2, np.random.default_rng(0))
    >>> len(found.lesions), bool((found.image != brain)[found.labels > 0].any())
    (2, True)
    """
    settings = settings or LesionSettings()
    if not 0 <= count <= np.iinfo(np.uint8).max:
        raise ConfigurationError(f"count={count!r}: give a number from 0 to 255, because labels have one byte")
    steps = np.asarray(spacing, dtype=np.float32)
    if image.ndim not in (2, 3) or steps.shape != (image.ndim,) or not (steps > 0).all():
        raise ConfigurationError(
            f"image of shape {image.shape} with spacing {tuple(spacing)}: give 2 or 3 axes, each with its mm"
        )
    if tissue.shape != image.shape or (places is not None and places.shape != image.shape):
        raise ConfigurationError(f"tissue and places must have the shape {image.shape} of the image")
    weights = (tissue if places is None else places * tissue).ravel()
    candidates = np.flatnonzero(weights > 0)
    painted = image.astype(np.float32)
    labels = np.zeros(image.shape, dtype=np.uint8)
    lesions: list[Lesion] = []
    if candidates.size == 0:
        return LesionedImage(painted, labels, ())
    low, high = np.percentile(image[tissue], (2, 98))
    chances = None if places is None else weights[candidates] / weights[candidates].sum()
    scale = float(low), float(max(high - low, 1e-6)), float(image.min())
    canvas = _Canvas(painted, labels, tissue, steps, *scale, rng, settings)
    for place in rng.choice(candidates, size=count, p=chances):
        lesion = canvas.add(np.array(np.unravel_index(place, image.shape)), len(lesions) + 1)
        if lesion is not None:
            lesions.append(lesion)
    return LesionedImage(painted, labels, tuple(lesions))


@dataclass
class _Canvas:
    """The image into which lesions are painted; ``image`` and ``labels`` are changed in place."""

    image: np.ndarray
    labels: np.ndarray
    tissue: np.ndarray
    steps: np.ndarray
    low: float
    range: float
    floor: float
    rng: np.random.Generator
    settings: LesionSettings

    def add(self, center: np.ndarray, number: int) -> Lesion | None:
        """Paint one lesion; None if it would not be visible."""
        rng, settings = self.rng, self.settings
        names = [kind for kind in KINDS if settings.kinds.get(kind, 0) > 0]
        chances = np.array([settings.kinds[kind] for kind in names])
        kind = str(rng.choice(names, p=chances / chances.sum()))
        radius = float(np.exp(rng.uniform(*np.log(settings.radius_mm))))
        if kind in ("ring", "diffuse", "texture"):
            radius = max(radius, min(4.0, settings.radius_mm[1]))
        elif kind == "calcification":
            radius = min(radius, max(3.0, settings.radius_mm[0]))
        bright = kind in ("ring", "calcification") or rng.uniform() < settings.hyperintense
        contrast = float(rng.uniform(*settings.contrast)) * (1 if bright else -1)
        if kind == "calcification":
            contrast = max(contrast, 0.8 * settings.contrast[1])
        pushes = radius >= 5 and kind not in ("diffuse", "texture") and rng.uniform() < settings.mass_effect

        box, coords = self._box(center, radius * (3.0 if pushes else 2.0) + 2 * settings.edge_mm[1])
        image, tissue = self.image[box], self.tissue[box]
        distance = self._shape(kind, radius, coords)
        if pushes:
            # The surface of the body must not move.
            image = np.where(tissue, self._displace(image, coords, distance, radius), image)
        around = tissue & (np.abs(distance) < max(2.5, 0.5 * radius))
        local = float(np.median(image[around])) if around.any() else float(np.median(image))
        change = self._beyond(local, contrast) if rng.uniform() < settings.extreme else contrast
        share, core = self._share(kind, radius, distance)
        edge = np.where(tissue, share, 0.0).astype(np.float32)
        replaced = rng.uniform(0.2, 0.9)
        uneven = rng.uniform(*settings.texture) * abs(change) * self.range
        inside = change * self.range + uneven * waves(coords, (2.5, max(5.0, radius)), rng)
        if kind == "ring":
            dark = -rng.uniform(0.2, 0.9) * change * self.range
            inside = inside * (1 - core) + dark * core
        if kind == "texture":
            inside = 2.0 * abs(change) * self.range * waves(coords, (2.0, 5.0), rng, count=10)
        smooth = gaussian_filter(image, _GRAIN_MM / self.steps)
        lost = 1 - rng.uniform(*settings.grain)
        painted = image + edge * (inside + replaced * (local - smooth) - lost * (image - smooth))
        painted = np.maximum(painted, self.floor)
        # Displaced tissue counts as a visible change, but only the lesion itself is labelled.
        mask = tissue & (share >= 0.5 * share.max())
        if not mask.any() or np.abs(painted - self.image[box])[mask].mean() < 0.03 * self.range:
            return None
        self.image[box] = painted
        self.labels[box] = np.where(mask, number, self.labels[box])
        return Lesion(kind, tuple(float(c) for c in center), radius, contrast, _attributes(kind, radius, bright))

    def _beyond(self, local: float, contrast: float) -> float:
        """A contrast of the same sign, at least as large, that is near or beyond the end of the range of the tissue."""
        share = self.rng.uniform(0.85, 1.15)
        target = self.low + self.range * (share if contrast > 0 else 1 - share)
        wanted = (target - local) / self.range
        return max(contrast, wanted) if contrast > 0 else min(contrast, wanted)

    def _box(self, center: np.ndarray, reach_mm: float) -> tuple[tuple[slice, ...], np.ndarray]:
        reach = np.ceil(reach_mm / self.steps).astype(int)
        low = np.maximum(center - reach, 0)
        high = np.minimum(center + reach + 1, self.image.shape)
        # The centre may be anywhere in its voxel.
        inside = center + self.rng.uniform(-0.5, 0.5, len(center))
        axes = [
            (np.arange(a, b, dtype=np.float32) - c) * step
            for a, b, c, step in zip(low, high, inside.astype(np.float32), self.steps, strict=True)
        ]
        coords = np.stack(np.meshgrid(*axes, indexing="ij"))
        return tuple(slice(a, b) for a, b in zip(low, high, strict=True)), coords

    def _shape(self, kind: str, radius: float, coords: np.ndarray) -> np.ndarray:
        rng = self.rng
        if kind == "multiple":
            distance = np.full(coords.shape[1:], -np.inf, dtype=np.float32)
            for _ in range(int(rng.integers(3, 7))):
                offset = rng.uniform(-1.3, 1.3, len(coords)).astype(np.float32) * radius
                moved = coords - offset.reshape(-1, *[1] * (coords.ndim - 1))
                distance = np.maximum(distance, ellipsoid(moved, max(1.2, radius * rng.uniform(0.2, 0.45)), rng))
            return distance
        if kind in ("lobed", "diffuse") or (kind == "texture" and rng.uniform() < 0.5):
            return lobed(coords, radius, rng)
        return irregular(coords, radius, rng)

    def _share(self, kind: str, radius: float, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The share of the lesion in each voxel, and the share of the core of a ring."""
        edge = self.rng.uniform(*self.settings.edge_mm)
        if kind == "diffuse":
            edge = self.rng.uniform(0.5, 1.0) * radius
        share = _fade(distance, edge)
        width = max(1.2, radius * self.rng.uniform(0.2, 0.4))
        return share, _fade(distance - width, min(edge, width))

    def _displace(self, image: np.ndarray, coords: np.ndarray, distance: np.ndarray, radius: float) -> np.ndarray:
        """The image with tissue displaced from the centre: most at the surface of the lesion, and less outwards."""
        outside = np.maximum(-distance, 0)
        strength = radius * self.rng.uniform(0.15, 0.4) * np.exp(-outside / (0.5 * radius))
        strength = gaussian_filter(strength, 1.0)
        # Nothing may move at the border of the box, which is 3 radii away.
        length = np.sqrt((coords**2).sum(0))
        strength *= np.clip(1 - length / (2.8 * radius), 0, 1)
        unit = coords / np.maximum(length, 1e-3)
        index = np.indices(image.shape, dtype=np.float32)
        source = index - strength * unit / self.steps.reshape(-1, *[1] * image.ndim)
        moved = map_coordinates(image, source, order=1, mode="nearest")
        return np.where(strength > 1e-3, moved, image)


def _fade(distance: np.ndarray, edge: float) -> np.ndarray:
    """0 outside, 1 inside, smooth over ``edge`` mm around the surface."""
    t = np.clip(distance / edge + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _attributes(kind: str, radius: float, bright: bool) -> tuple[str, ...]:
    found = ["lesion"]
    if kind != "texture":
        found.append("hyperintense" if bright else "hypointense")
    found += {"ring": ["ring"], "diffuse": ["diffuse"], "calcification": ["calcified"], "texture": ["textured"]}.get(
        kind, []
    )
    if radius < SMALL_MM or kind in ("multiple", "calcification"):
        found.append("small")
    elif radius > LARGE_MM:
        found.append("large")
    return tuple(found)
