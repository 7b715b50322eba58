"""Images and volumes of a benchmark set: load them for a network, and make predictions from its output."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from torch.utils.data import Sampler

from monai_zsad.data import LoadMask, LoadPicture, resize_picture
from monai_zsad.data.benchmarks import read_benchmark
from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.evaluation.predictions import Prediction
from monai_zsad.transforms import BodyMask

__all__ = [
    "ClassBatches",
    "LoadTruth",
    "PictureCased",
    "benchmark_cases",
    "image_prediction",
    "volume_prediction",
]

_SHOWN = 256


def benchmark_cases(
    name: str, folder: str | os.PathLike[str], layout: str = "auto", part: str = "test"
) -> list[dict[str, Any]]:
    """Records of :func:`~monai_zsad.data.benchmarks.read_benchmark` in a form that can be collated.

    A missing mask becomes an empty string. A table can list images with absolute paths. The id of an image is then its
    path relative to the common folder of these images, so that an id holds no path of this machine.

    Raises:
        ConfigurationError: see ``read_benchmark``.
        InputError: see ``read_benchmark``.
    """
    records = read_benchmark(name, folder, layout=layout, part=part)
    away = [PurePosixPath(record["case"]) for record in records if PurePosixPath(record["case"]).is_absolute()]
    common = os.path.commonpath([path.parent for path in away]) if away else ""
    found = []
    for record in records:
        path = PurePosixPath(record["case"])
        case = path.relative_to(common).as_posix() if path.is_absolute() else str(record["case"])
        found.append({**record, "case": case, "mask": record["mask"] or ""})
    return found


class ClassBatches(Sampler[list[int]]):
    """Batches in which all items have the same class, because each class can have its own prompts.

    PyTorch's ``BatchSampler`` mixes classes. Here the classes come in the order of their first item.

    Args:
        dataset: its attribute ``data`` is a list of records. The list can change until the first batch is requested.
        batch_size: largest number of items of a batch.

    Example:
        >>> from types import SimpleNamespace
        >>> data = [{"class_name": name} for name in "abaa"]
        >>> list(ClassBatches(SimpleNamespace(data=data), 2))
        [[0, 2], [3], [1]]
    """

    def __init__(self, dataset: Any, batch_size: int) -> None:
        if batch_size < 1:
            raise ConfigurationError(f"batch_size={batch_size!r}: give a whole number of at least 1")
        self.dataset = dataset
        self.batch_size = batch_size

    def _batches(self) -> list[list[int]]:
        classes: dict[str, list[int]] = {}
        for index, record in enumerate(self.dataset.data):
            classes.setdefault(str(record["class_name"]), []).append(index)
        return [
            indices[start : start + self.batch_size]
            for indices in classes.values()
            for start in range(0, len(indices), self.batch_size)
        ]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches())

    def __len__(self) -> int:
        return len(self._batches())


class LoadTruth(Transform):
    """Load a mask (1, S, S) and resize it as a protocol says. An empty path gives zeros.

    :class:`~monai_zsad.data.LoadMask` resizes by ``"area"``. The release of AA-CLIP takes the nearest pixel.

    Args:
        size: rows and columns S in pixels.
        resize: ``"area"`` or ``"nearest"``.

    Example:
        >>> LoadTruth(4, "nearest")("").sum()
        tensor(0.)
    """

    def __init__(self, size: int, resize: str = "area") -> None:
        self.size = size
        self.resize = resize
        self.load = LoadMask(size)

    def __call__(self, path: Any) -> torch.Tensor:
        """Load the mask from a path.

        Raises:
            InputError: if the file cannot be read.
        """
        if self.resize == "area" or path in ("", None):
            return self.load(path)
        from PIL import Image

        try:
            with Image.open(path) as picture:
                grey = picture.convert("L") if picture.mode in ("P", "RGB", "RGBA", "LA") else picture
                binary = Image.fromarray((np.asarray(grey) > 0).astype(np.uint8))
                values = np.array(binary.resize((self.size, self.size), Image.Resampling.NEAREST))
        except OSError as error:
            raise InputError(f"{path}: cannot be read as a mask ({error}); copy it again") from error
        return torch.from_numpy(values)[None].float()


class PictureCased(MapTransform):
    """Load the image and the mask of a record as a protocol needs them.

    :class:`~monai_zsad.data.LoadPictured` and ``LoadMaskd`` support neither grey images nor nearest-pixel resizing.

    Args:
        keys: key of the image's path. The key of the mask's path is ``"mask"``.
        size: rows and columns S in pixels.
        channels: ``"rgb"`` gives (3, S, S). ``"grey"`` gives the mean of the channels, (1, S, S).
        mask_resize: see :class:`LoadTruth`.
    """

    def __init__(
        self, keys: KeysCollection = "image", size: int = 518, channels: str = "rgb", mask_resize: str = "area"
    ) -> None:
        super().__init__(keys)
        self.load = LoadPicture(size)
        self.load_truth = LoadTruth(size, mask_resize)
        self.channels = channels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load image and mask. Keep the other entries, and add the paths as ``image_file`` and ``mask_file``."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[f"{key}_file"], d["mask_file"] = d[key], d["mask"]
            picture = self.load(d[key])
            d[key] = picture.mean(0, keepdim=True) if self.channels == "grey" else picture
            d["mask"] = self.load_truth(d["mask"])
        return d


def image_prediction(data: Mapping[Hashable, Any], record: Mapping[str, Any], has_masks: bool) -> Prediction:
    """Prediction of an image from the network's ``pred`` (2, S, S), ``image`` (C, S, S) and ``mask`` (1, S, S)."""
    pred = _array(data["pred"])
    picture = resize_picture(torch.as_tensor(_array(data["image"])), min(_SHOWN, pred.shape[-1])).numpy()
    shown = np.rint(255 * picture).astype(np.uint8)
    return Prediction(
        case=str(record["case"]),
        class_name=str(record["class_name"]),
        label=int(record["label"]),
        score=float(pred[1, 0, 0]),
        anomaly=pred[0],
        truth=_array(data["mask"])[0] > 0 if has_masks else None,
        picture=shown[0] if len(shown) == 1 else np.moveaxis(shown, 0, -1),
    )


def volume_prediction(
    data: Mapping[Hashable, Any], record: Mapping[str, Any], region: str | float = "body"
) -> Prediction:
    """Prediction of a volume on the scan's own grid.

    Args:
        data: ``pred`` (1, X, Y, Z) after ``Invertd``, ``scan`` (1, X, Y, Z) as it was loaded, ``volume_score`` and
            ``slice_scores`` of :class:`~monai_zsad.transforms.VolumeScored`.
        record: record of the case; ``mask`` is the path of its mask.
        region: where voxels count: ``"body"`` (:class:`~monai_zsad.transforms.BodyMask`), ``"all"``, or a number f
            for brain-extracted MR. Then the voxels count that are brighter than f times the scan's 99th percentile.

    Raises:
        ConfigurationError: the region is unknown or empty.
        InputError: the mask cannot be read or has another grid than the scan.
    """
    scan, anomaly = data["scan"], _array(data["pred"])[0]
    truth = _truth_on_grid(record, scan)
    inside = region_of(scan, region)
    area = truth.sum((0, 1)) if truth.any() else anomaly.max((0, 1))
    shown = int(np.argmax(area))
    return Prediction(
        case=str(record["case"]),
        class_name=str(record["class_name"]),
        label=int(record["label"]),
        score=float(data["volume_score"]),
        anomaly=anomaly,
        truth=truth,
        region=inside,
        slice_scores=_slice_scores(data["slice_scores"], _affine(scan), anomaly.shape[2]),
        picture=_eight_bits(_array(scan)[0], shown),
        picture_slice=shown,
        affine=np.asarray(_affine(scan), dtype=np.float64),
    )


def region_of(scan: Any, region: str | float) -> np.ndarray:
    """Mask (X, Y, Z) of bool of the voxels of a scan (1, X, Y, Z) that count; see :func:`volume_prediction`.

    Raises:
        ConfigurationError: the region is unknown, or it holds no voxel of the scan.
    """
    values, wanted = _array(scan)[0], parse_region(region)
    if wanted == "all":
        return np.ones(values.shape, dtype=bool)
    if isinstance(wanted, str):
        found = np.asarray(BodyMask()(scan))[0] > 0
    else:
        found = values > wanted * np.percentile(values, 99)
    if not found.any():
        raise ConfigurationError(f"region={region!r} is empty in a scan: choose another, such as --region all")
    return found


def parse_region(region: str | float) -> str | float:
    """Check a region: ``"body"``, ``"all"`` or a number, see :func:`volume_prediction`.

    Raises:
        ConfigurationError: the region is something else.
    """
    if region in ("body", "all"):
        return region
    try:
        fraction = float(region)
    except (TypeError, ValueError):
        fraction = float("nan")
    if not np.isfinite(fraction):
        raise ConfigurationError(
            f"region={region!r}: choose body, all, or a fraction of the scan's 99th percentile such as 0.05"
        )
    return fraction


def _truth_on_grid(record: Mapping[str, Any], scan: Any) -> np.ndarray:
    shape = tuple(scan.shape[1:])
    if not record["mask"]:
        return np.zeros(shape, dtype=bool)
    from monai.transforms import LoadImage

    from monai_zsad.data import ScanReader

    # As in training: a mask can have a single value, and it compresses much better than a scan.
    reader = ScanReader(accept=["constant", "implausible-compression"])
    mask = LoadImage(reader=reader, ensure_channel_first=True)(record["mask"])
    if tuple(mask.shape[1:]) != shape or not np.allclose(_affine(mask), _affine(scan), atol=1e-3):
        raise InputError(
            f"{Path(record['mask']).name}: lies on another grid than {Path(record['image']).name} (shape "
            f"{tuple(mask.shape[1:])}, the scan's {shape}); resample the mask to the scan"
        )
    return _array(mask)[0] > 0


def _slice_scores(entries: Sequence[Mapping[str, Any]], affine: np.ndarray, count: int) -> np.ndarray | None:
    """Scores (Z,) of the slices along the third axis; ``None`` if the network's slices lie along another axis."""
    scores = np.full(count, np.nan)
    for entry in entries:
        place = float(np.linalg.solve(affine, [*entry["position_mm"], 1.0])[2])
        if not (abs(place - entry["slice"]) < 0.51 and 0 <= entry["slice"] < count):
            return None
        if entry["scored"]:
            scores[int(entry["slice"])] = float(entry["score"])
    return scores


def _eight_bits(volume: np.ndarray, index: int) -> np.ndarray:
    low, high = (float(value) for value in np.percentile(volume, [0.5, 99.5]))
    scaled = (volume[..., index] - low) / (high - low if high > low else 1.0)
    return np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def _affine(volume: Any) -> np.ndarray:
    return volume.affine.cpu().numpy() if isinstance(volume, MetaTensor) else np.eye(4)


def _array(values: Any) -> np.ndarray:
    tensor = values.as_tensor() if isinstance(values, MetaTensor) else torch.as_tensor(values)
    return tensor.detach().cpu().float().numpy()
