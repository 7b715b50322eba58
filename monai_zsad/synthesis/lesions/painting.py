"""Painting synthetic lesions into an image: shape, intensity relative to the tissue around, mask and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from monai_zsad.errors import ConfigurationError
from monai_zsad.synthesis.lesions.shapes import ellipsoid, irregular, lobed, waves

__all__ = ["ATTRIBUTES", "KINDS", "Lesion", "LesionSettings", "LesionedImage", "paint_lesions"]

ATTRIBUTES = ("lesion", "hyperintense", "hypointense", "ring", "diffuse", "small", "large", "calcified", "textured")
"""What is told of a lesion, one bit each, in this order."""

KINDS = ("focal", "lobed", "ring", "diffuse", "multiple", "calcification", "texture")
"""Kinds of lesions that are painted."""

_SMALL_MM, _LARGE_MM = 4.0, 9.0
_GRAIN_MM = 1.0  # texture finer than this belongs to the scan, not to the tissue


@dataclass(frozen=True)
class LesionSettings:
    """What lesions look like; pairs are the ends of ranges from which each lesion draws.

    Args:
        radius_mm: mean radius. Drawn evenly on a logarithmic scale, so that small ones are common.
        contrast: difference from the tissue around, as a fraction of the image's range (2nd to 98th percentile).
        edge_mm: width over which a border fades.
        kinds: relative frequency of each of :data:`KINDS`.
        hyperintense: fraction that is brighter than its surroundings.
        mass_effect: fraction of the lesions of 5 mm or more that push the tissue around aside.
        texture: strength of the unevenness inside, as a fraction of the contrast.
        extreme: fraction that is brighter (or darker) than nearly all tissue, wherever it lies, as lesions on FLAIR
            are, instead of only than the tissue around.
        grain: how much of the scan's own fine texture is left inside, 1 being all. A lesion smoother than tissue can
            be would be found by that alone.

    >>> LesionSettings(hyperintense=1.0).radius_mm
    (1.5, 14.0)
    """

    radius_mm: tuple[float, float] = (1.5, 14.0)
    contrast: tuple[float, float] = (0.18, 0.65)
    edge_mm: tuple[float, float] = (0.6, 2.0)
    kinds: Mapping[str, float] = field(
        default_factory=lambda: dict(zip(KINDS, (4.0, 2.0, 1.0, 1.5, 1.0, 0.5, 0.5), strict=True))
    )
    hyperintense: float = 0.6
    mass_effect: float = 0.3
    texture: tuple[float, float] = (0.05, 0.35)
    extreme: float = 0.3
    grain: tuple[float, float] = (0.7, 1.1)

    def __post_init__(self) -> None:
        for name in ("radius_mm", "contrast", "edge_mm", "texture", "grain"):
            low, high = getattr(self, name)
            if not 0 <= low <= high or (name not in ("texture", "grain") and low == 0):
                raise ConfigurationError(f"{name}={(low, high)!r}: give the lower and the upper end, above 0")
        for name in ("hyperintense", "mass_effect", "extreme"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"{name}={getattr(self, name)!r}: give a fraction within [0, 1]")
        if unknown := sorted(set(self.kinds) - set(KINDS)):
            raise ConfigurationError(f"kinds name {', '.join(unknown)}: choose from {', '.join(KINDS)}")
        if not sum(self.kinds.values()) > 0 or min(self.kinds.values()) < 0:
            raise ConfigurationError(f"kinds={dict(self.kinds)!r}: give frequencies of at least 0, one above it")


@dataclass(frozen=True)
class Lesion:
    """One painted lesion.

    Attributes:
        kind: one of :data:`KINDS`.
        center: voxel indices of its centre.
        radius_mm: mean radius in mm.
        contrast: signed difference from the tissue around, as a fraction of the image's range; an extreme lesion's is
            at least that.
        attributes: those of :data:`ATTRIBUTES` that hold.
    """

    kind: str
    center: tuple[float, ...]
    radius_mm: float
    contrast: float
    attributes: tuple[str, ...]

    @property
    def caption(self) -> str:
        """Words for the lesion, such as "small hyperintense lesion".

        >>> Lesion("ring", (1.0, 2.0), 5.0, 0.4, ("lesion", "hyperintense", "ring")).caption
        'ring-enhancing lesion'
        """
        size = next((word for word in ("small", "large") if word in self.attributes), "")
        word = {"ring": "ring-enhancing", "calcification": "calcified", "texture": "irregular"}.get(self.kind)
        if word is None:
            polarity = "hyperintense" if "hyperintense" in self.attributes else "hypointense"
            word = f"diffuse {polarity}" if self.kind == "diffuse" else polarity
        return " ".join(part for part in (size, word, "lesion") if part)


class LesionedImage(NamedTuple):
    """An image with lesions.

    Attributes:
        image: like the image given, float32.
        labels: uint8, the number of the lesion at each voxel, from 1; 0 where there is none.
        lesions: what was painted, in the order of their numbers.
    """

    image: np.ndarray
    labels: np.ndarray
    lesions: tuple[Lesion, ...]

    def attribute_masks(self) -> np.ndarray:
        """Masks (len(ATTRIBUTES), ...) of bool: where a lesion has the attribute."""
        table = np.zeros((len(ATTRIBUTES), len(self.lesions) + 1), dtype=bool)
        for number, lesion in enumerate(self.lesions, start=1):
            for attribute in lesion.attributes:
                table[ATTRIBUTES.index(attribute), number] = True
        return table[:, self.labels]


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

    Every lesion changes the image only inside its own box: its radius, what it pushes aside and its fading border.
    The mask is where its share of the voxel is at least half of its largest, inside the tissue.

    Args:
        image: 2D or 3D, any units; not changed.
        spacing: mm between voxels along each axis.
        tissue: bool, where lesions may be seen.
        count: how many to paint; fewer if there is no place.
        rng: source of randomness: the same state gives the same lesions.
        settings: what they look like.
        places: weights of at least 0 for a lesion's centre, in the image's shape; default: the tissue.

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
        raise ConfigurationError(f"count={count!r}: give a number from 0 to 255, as labels have one byte")
    steps = np.asarray(spacing, dtype=np.float32)
    if image.ndim not in (2, 3) or steps.shape != (image.ndim,) or not (steps > 0).all():
        raise ConfigurationError(
            f"an image of shape {image.shape} with spacing {tuple(spacing)}: give 2 or 3 axes in mm"
        )
    if tissue.shape != image.shape or (places is not None and places.shape != image.shape):
        raise ConfigurationError(f"tissue and places must have the image's shape {image.shape}")
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
    """The image that is painted on; ``image`` and ``labels`` change."""

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
        """Paint one lesion; None if it would not be seen."""
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
            # The body's surface gives way to nothing.
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
        # What moved counts too, yet only the lesion itself is labelled.
        mask = tissue & (share >= 0.5 * share.max())
        if not mask.any() or np.abs(painted - self.image[box])[mask].mean() < 0.03 * self.range:
            return None
        self.image[box] = painted
        self.labels[box] = np.where(mask, number, self.labels[box])
        return Lesion(kind, tuple(float(c) for c in center), radius, contrast, _attributes(kind, radius, bright))

    def _beyond(self, local: float, contrast: float) -> float:
        """A contrast of the same sign that leaves the range of the tissue, or nearly so; at least the given one."""
        share = self.rng.uniform(0.85, 1.15)
        target = self.low + self.range * (share if contrast > 0 else 1 - share)
        wanted = (target - local) / self.range
        return max(contrast, wanted) if contrast > 0 else min(contrast, wanted)

    def _box(self, center: np.ndarray, reach_mm: float) -> tuple[tuple[slice, ...], np.ndarray]:
        reach = np.ceil(reach_mm / self.steps).astype(int)
        low = np.maximum(center - reach, 0)
        high = np.minimum(center + reach + 1, self.image.shape)
        # The centre lies anywhere in its voxel.
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
        """The lesion's share of each voxel, and the core's of a ring."""
        edge = self.rng.uniform(*self.settings.edge_mm)
        if kind == "diffuse":
            edge = self.rng.uniform(0.5, 1.0) * radius
        share = _fade(distance, edge)
        width = max(1.2, radius * self.rng.uniform(0.2, 0.4))
        return share, _fade(distance - width, min(edge, width))

    def _displace(self, image: np.ndarray, coords: np.ndarray, distance: np.ndarray, radius: float) -> np.ndarray:
        """Tissue pushed away from the centre: most at the lesion's surface, smoothly less outwards."""
        outside = np.maximum(-distance, 0)
        strength = radius * self.rng.uniform(0.15, 0.4) * np.exp(-outside / (0.5 * radius))
        strength = gaussian_filter(strength, 1.0)
        # Nothing may move at the box's border, which is 3 radii away.
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
    if radius < _SMALL_MM or kind in ("multiple", "calcification"):
        found.append("small")
    elif radius > _LARGE_MM:
        found.append("large")
    return tuple(found)
