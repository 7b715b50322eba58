"""Score of a volume, and the positions of its slices in the scan."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform
from monai.utils import SpaceKeys, ensure_tuple

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.transforms._volume import all_finite, as_volume, describe, ras_affine

__all__ = ["VolumeScoreD", "VolumeScoreDict", "VolumeScored", "volume_score"]

_FAMILIAR = 1.0
_METHODS = ("top_k_mean", "max", "quantile", "mean")


def _check(method: str, k: int | float | None, q: float) -> None:
    if method not in _METHODS:
        raise ConfigurationError(f"method={method!r} is not known: accepted are {', '.join(map(repr, _METHODS))}.")
    is_count = isinstance(k, int) and not isinstance(k, bool) and k >= 1
    is_fraction = isinstance(k, float) and 0 < k < 1
    if k is not None and not is_count and not is_fraction:
        raise ConfigurationError(
            f"k={k!r}: a number of slices (1, 2, ...) or a fraction of them (0 < k < 1) is needed."
        )
    if not 0 <= q <= 1:
        raise ConfigurationError(f"q={q!r} must lie in [0, 1].")


def volume_score(
    scores: Sequence[float] | np.ndarray, method: str = "top_k_mean", k: int | float = 3, q: float = 0.95
) -> float:
    """Combine the scores of a volume's slices into one score.

    The default is the mean of the k highest scores. A lesion spans several slices, so several scores are high. The
    maximum would follow a single wrong slice, and the mean would depend on the number of normal slices.

    Args:
        scores: scores of the slices that were scored, in any order.
        method: ``"top_k_mean"``, ``"max"``, ``"quantile"`` or ``"mean"``.
        k: number of slices, or a fraction of them (0 < k < 1, rounded up). If there are fewer slices, all are used.
        q: quantile in [0, 1], interpolated linearly.

    Returns:
        The score of the volume, on the scale of the slice scores.

    Raises:
        ConfigurationError: an unknown method, or k or q out of range.
        InputError: no scores, or non-finite ones.

    Example:
        >>> volume_score([0.1, 0.9, 0.5, 0.7], k=2)
        0.8
        >>> volume_score([0.1, 0.9, 0.5, 0.7], method="max")
        0.9
    """
    _check(method, k, q)
    values = np.sort(np.asarray(scores, dtype=np.float64).ravel())[::-1]
    if values.size == 0:
        raise InputError(
            "no slice was scored, so the volume has no score: every slice was skipped as empty. Check the foreground, "
            "or lower the fraction below which a slice is skipped."
        )
    if not np.isfinite(values).all():
        raise InputError("the slice scores hold NaN or infinite values: check the network's weights.")
    if method == "top_k_mean":
        return float(values[: k if isinstance(k, int) else ceil(k * values.size)].mean())
    if method == "quantile":
        return float(np.quantile(values, q))
    return float(values.max() if method == "max" else values.mean())


class VolumeScored(MapTransform):
    """Add the score of the volume and the list of its slices to the data; the volume itself stays as it is.

    MONAI has no transform that combines slice scores. This transform must stand before ``Invertd``, because there the
    third axis still counts the slices that the network saw. It has only a dictionary form, because it adds entries;
    :func:`volume_score` does the calculation.

    It adds ``volume_score`` (float) and ``slice_scores``, one dictionary per slice in the order of the third axis:
    ``slice`` (index along the axis of the source scan whose direction is closest to the third axis here),
    ``position_mm`` ([x, y, z] in mm, RAS, of the centre of the slice as the network saw it), ``score`` (mean of channel
    1 over the slice; this channel is constant in a slice) and ``scored`` (False if map and score are 0 everywhere: the
    slice was skipped and does not count).

    If the network gives a third channel, each slice has ``unfamiliarity`` (mean of this channel), too. It is above 1 if
    the slice is unlike everything that the network was trained on. The case then has ``unfamiliarity``, the median of
    the slices that count, and ``unfamiliar``: whether it is above 1, so that most slices are unfamiliar.

    Args:
        keys: key of the result (2 or 3, rows, columns, slices): anomaly map, slice score, unfamiliarity.
        orig_keys: key of the scan whose metadata contain the geometry, as in ``Invertd``; ``None`` uses ``keys``.
        method: see :func:`volume_score`.
        k: see :func:`volume_score`. ``None`` takes as many slices as ``span_mm`` covers, at least one. A fixed number
            of slices would cover 3 mm in a thin-slice scan and 15 mm in another scan. A fraction would require a larger
            lesion in a longer scan.
        q: see :func:`volume_score`.
        span_mm: through-plane extent in mm from which a lesion counts fully. 5 mm is about the distance between two
            tokens of the network. Smaller lesions are hard to see in the plane, too.
        allow_missing_keys: do not raise an error if the key is missing.

    Raises:
        ConfigurationError: several keys, an unknown method, or a value out of range.

    Example:
        >>> pred = MetaTensor(torch.zeros(2, 4, 4, 3))
        >>> pred[1, :, :, 1:] = torch.tensor([0.25, 0.75])
        >>> data = VolumeScored("pred", k=2)({"pred": pred})
        >>> data["volume_score"], [entry["scored"] for entry in data["slice_scores"]]
        (0.5, [False, True, True])
        >>> data["slice_scores"][2]
        {'slice': 2, 'position_mm': [1.5, 1.5, 2.0], 'score': 0.75, 'scored': True}
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        orig_keys: KeysCollection | None = None,
        method: str = "top_k_mean",
        k: int | float | None = None,
        q: float = 0.95,
        span_mm: float = 5.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ConfigurationError(f"keys={keys!r}: one key is accepted, as the entries it adds have fixed names.")
        _check(method, k, q)
        if not (np.isfinite(span_mm) and span_mm > 0):
            raise ConfigurationError(f"span_mm={span_mm!r} must be a positive number of mm.")
        self.orig_key: Hashable = self.keys[0] if orig_keys is None else ensure_tuple(orig_keys)[0]
        self.method = method
        self.k = k
        self.q = q
        self.span_mm = span_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add ``volume_score``, ``volume_score_method``, ``slice_scores``; and ``unfamiliarity`` and ``unfamiliar``.

        Args:
            data: holds the result (2 or 3, rows, columns, slices) under the key.

        Raises:
            InputError: another shape, non-finite values, no scored slice, or a geometry that does not fit the source.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            pred = self._checked(d[key])
            origin = as_volume(d[self.orig_key])
            affine = ras_affine(origin)
            scored = (pred[0].any(0).any(0) | pred[1].any(0).any(0)).tolist()
            scores = pred[1].mean(dim=(0, 1), dtype=torch.float64).tolist()
            indices, positions = self._places(pred, origin, affine)
            d["slice_scores"] = [
                {"slice": index, "position_mm": position, "score": score if is_scored else 0.0, "scored": is_scored}
                for index, position, score, is_scored in zip(indices, positions, scores, scored, strict=True)
            ]
            if len(pred) > 2:
                d.update(self._unfamiliar(pred[2], d["slice_scores"]))
            k = self.k or max(1, round(self.span_mm / affine_to_spacing(affine, 3)[2]))
            kept = [score for score, is_scored in zip(scores, scored, strict=True) if is_scored]
            d["volume_score"] = volume_score(kept, self.method, k, self.q)
            d["volume_score_method"] = self.method
        return d

    def _unfamiliar(self, channel: torch.Tensor, entries: list[dict[str, Any]]) -> dict[Hashable, Any]:
        """Add the unfamiliarity (rows, columns, slices) to the entries of slices; returns that of the case."""
        for entry, value in zip(entries, channel.mean(dim=(0, 1), dtype=torch.float64).tolist(), strict=True):
            entry["unfamiliarity"] = value if entry["scored"] else 0.0
        values = [entry["unfamiliarity"] for entry in entries if entry["scored"]]
        median = float(np.median(values)) if values else 0.0
        return {"unfamiliarity": median, "unfamiliar": median > _FAMILIAR}

    def _checked(self, pred: Any) -> MetaTensor:
        volume = as_volume(pred)
        if volume.shape[0] not in (2, 3):
            raise InputError(
                f"{self.keys[0]!r} has the shape {tuple(volume.shape)}, but (2, rows, columns, slices) is needed, "
                "anomaly map and slice score (a third channel: unfamiliarity): put VolumeScored after the inferer and "
                "before channels are split."
            )
        plain = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
        if not all_finite(plain):
            raise InputError(
                f"the network returned non-finite values for {describe(volume)}: most likely its weights were not "
                "loaded. Check the checkpoint that the run names, and AMP off if it is on."
            )
        return plain

    def _places(
        self, pred: torch.Tensor, origin: torch.Tensor, affine: np.ndarray
    ) -> tuple[list[int], list[list[float]]]:
        """Index in the source scan and centre (mm, RAS) of every slice."""
        rows, columns, slices = pred.shape[1:]
        if tuple(origin.shape[1:]) != (rows, columns, slices):
            raise InputError(
                f"{self.keys[0]!r} has the shape {(rows, columns, slices)}, {self.orig_key!r} "
                f"{tuple(origin.shape[1:])}: both must lie on one grid, so put VolumeScored before Invertd."
            )
        centres = np.array([[(rows - 1) / 2, (columns - 1) / 2, s, 1.0] for s in range(slices)]) @ affine.T
        source, shape = self._source(origin, affine)
        directions = source[:3, :3] / affine_to_spacing(source, 3)
        axis = int(np.argmax(np.abs(directions.T @ affine[:3, 2])))
        indices = np.round((centres @ np.linalg.inv(source).T)[:, axis]).astype(int)
        if indices.min() < 0 or indices.max() >= shape[axis]:
            raise InputError(
                f"slices {indices.min()} to {indices.max()} do not lie in {describe(origin)}, which has {shape[axis]} "
                "along that axis: the result's metadata belong to another scan. Name the scan's key as orig_keys."
            )
        return indices.tolist(), [[round(float(x), 4) for x in centre[:3]] for centre in centres]

    def _source(self, origin: torch.Tensor, affine: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
        """Affine (mm, RAS) and shape of the scan as it was loaded."""
        meta = origin.meta if isinstance(origin, MetaTensor) else {}
        if "original_affine" in meta and "spatial_shape" in meta:
            source: np.ndarray = np.asarray(meta["original_affine"], dtype=np.float64).reshape(4, 4)
            if meta.get("space") == SpaceKeys.LPS:
                source = np.diag([-1.0, -1.0, 1.0, 1.0]) @ source
            return source, tuple(int(size) for size in np.asarray(meta["spatial_shape"]).ravel())
        if isinstance(origin, MetaTensor) and origin.applied_operations:
            raise InputError(
                f"the metadata of {self.orig_key!r} lack 'original_affine' or 'spatial_shape', so its slices cannot be "
                "placed in the scan: load it with LoadImaged, and name its key as orig_keys."
            )
        return affine, tuple(origin.shape[1:])


VolumeScoreD = VolumeScoreDict = VolumeScored
