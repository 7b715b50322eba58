"""Benchmark sets as lists of records."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.benchmarks.layouts import KNOWN_LAYOUTS
from monai_zsad.data.benchmarks.registry import Benchmark, get_benchmark
from monai_zsad.data.benchmarks.trees import Found, is_volume
from monai_zsad.errors import ConfigurationError, InputError

__all__ = ["case_of", "load_values", "locate", "read_benchmark", "class_of"]

_UNREADABLE = (OSError, EOFError, ValueError, SyntaxError, RuntimeError, zlib.error)


def read_benchmark(
    name: str, folder: str | os.PathLike[str], *, layout: str = "auto", part: str = "test"
) -> list[dict[str, Any]]:
    """List the images of a benchmark set, or of volumes of your own.

    Args:
        name: of the set, see :func:`get_benchmark`; ``"volumes"`` for scans with masks.
        folder: of the unpacked set; for ``"volumes"`` also a CSV file with pairs of scan and mask.
        layout: one of the layouts of the set, ``"meta"`` for a ``meta.json`` of the methods' releases, or ``"auto"``:
            ``meta.json`` if there is one, otherwise the first layout of the set that fits.
        part: of the set, for example ``"test"``, ``"valid"`` or ``"train"``; a set without parts is all ``"test"``.

    Returns:
        Records in the order of their paths: ``image`` (path), ``mask`` (path, or ``None`` for a normal image or a
        set without masks), ``label`` (0 normal, 1 anomalous), ``class_name`` (of the set), ``prompt_name`` (the class
        in a prompt), ``case`` (the path of the image in the folder) and ``benchmark`` (name). For volumes and
        KolektorSDD, the label is read from the mask. ``LoadPictured`` and ``LoadMaskd`` load 2D images and their
        masks; ``mask`` has to be loaded before records are collated.

    Raises:
        ConfigurationError: if the name, the layout or the part is unknown.
        InputError: if the folder does not hold the set, a listed image does not exist, an anomalous image has no mask,
            or a mask that is needed for the label cannot be read.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for kind in ("no", "yes"):
        ...     (root / kind).mkdir()
        ...     (root / kind / "1.jpg").touch()
        >>> [(record["case"], record["label"]) for record in read_benchmark("br35h", root)]
        [('no/1.jpg', 0), ('yes/1.jpg', 1)]
    """
    benchmark = get_benchmark(name)
    root = Path(folder).expanduser()
    _, found = locate(benchmark, root, layout, part)
    _check_files(benchmark, found, root)
    records = []
    for item in found:
        label = item.anomalous
        if label < 0 and item.mask is not None:
            label = int((load_values(item.mask) > 0).any())
        class_name = class_of(benchmark, item)
        records.append(
            {
                "image": str(item.image),
                "mask": str(item.mask) if label and item.mask is not None else None,
                "label": label,
                "class_name": class_name,
                "prompt_name": benchmark.prompt_name(class_name),
                "case": case_of(item.image, root),
                "benchmark": benchmark.name,
            }
        )
    return records


def locate(benchmark: Benchmark, root: Path, layout: str, part: str) -> tuple[str, list[Found]]:
    """The layout of a folder and its images, in the order of their paths; see :func:`read_benchmark`."""
    allowed = benchmark.readable
    if layout not in ("auto", *allowed):
        raise ConfigurationError(
            f"layout={layout!r} is not a layout of {benchmark.title}: choose auto, {', '.join(allowed)}"
        )
    names = allowed if layout == "auto" else (layout,)
    if part.lower() != "test" and not any(KNOWN_LAYOUTS[name].has_parts for name in names):
        raise ConfigurationError(f"part={part!r}: {benchmark.title} has no parts; leave this option out, or give test")
    if not (root.is_dir() or (root.is_file() and "table" in names)):
        raise InputError(f"{root} is not a folder; {_wanted(benchmark, names)}")
    for name in names:
        if part.lower() == "test" or KNOWN_LAYOUTS[name].has_parts:
            found = sorted(KNOWN_LAYOUTS[name].find(root, [part]), key=lambda item: str(item.image))
            if found:
                return name, found
    asked = "" if part.lower() == "test" else f" in its part {part!r}"
    raise InputError(f"{root} holds no images of {benchmark.title}{asked}; {_wanted(benchmark, names)}")


def _check_files(benchmark: Benchmark, found: Sequence[Found], root: Path) -> None:
    """Refuse another set and missing masks (a missing mask would count as an empty one): the scores would be wrong."""
    classes = {class_of(benchmark, item) for item in found}
    if benchmark.classes and not classes & set(benchmark.classes):
        raise InputError(
            f"{root} holds {', '.join(sorted(classes)[:5])}, which are not classes of {benchmark.title} "
            f"({', '.join(benchmark.classes)}); give the folder of {benchmark.title}, or the name of this set"
        )
    remedy = f"`python -m monai_zsad datasets check {benchmark.name} {root}` lists them; unpack the set again"
    absent = [item.image for item in found if not item.image.is_file()]
    if absent:
        raise InputError(
            f"{absent[0]} is listed in {root} but does not exist ({len(absent)} images are missing); {remedy}"
        )
    needed = [item for item in found if item.anomalous and (item.mask is not None or benchmark.has_masks)]
    lacking = [item.image for item in needed if item.mask is None or not item.mask.is_file()]
    if lacking:
        raise InputError(f"{lacking[0]} has no mask ({len(lacking)} masks are missing in {root}); {remedy}")


def class_of(benchmark: Benchmark, item: Found) -> str:
    """The class of an image. For a set with one class, the name in the folder is ignored, because releases differ."""
    if len(benchmark.classes) == 1:
        return benchmark.classes[0]
    plain = {name.lower(): name for name in benchmark.classes}
    return plain.get(item.class_name.lower(), item.class_name)


def case_of(image: Path, root: Path) -> str:
    """Id of an image: its path in the folder, or its complete path if it is elsewhere."""
    return image.relative_to(root).as_posix() if image.is_relative_to(root) else image.as_posix()


def load_values(path: Path) -> np.ndarray:
    """Stored values of a 2D image (rows, columns[, channels]) or a volume (X, Y, Z[, ...]).

    Raises:
        InputError: naming the file, if it cannot be read.
    """
    from nibabel.filebasedimages import ImageFileError
    from PIL import Image

    try:
        if not is_volume(path):
            with Image.open(path) as image:
                # The indices of a palette are not grey values.
                return np.asarray(image.convert("RGB") if image.mode == "P" else image)
        from monai.data.image_reader import ITKReader, NibabelReader

        # `LoadImage` would create all readers of MONAI for each file.
        reader = NibabelReader() if path.name.lower().endswith((".nii", ".nii.gz")) else ITKReader()
        values, _ = reader.get_data(reader.read(str(path)))
        return np.asarray(values)
    except (*_UNREADABLE, ImageFileError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read ({type(error).__name__}: {reason}); copy it again") from error


def _wanted(benchmark: Benchmark, names: Sequence[str]) -> str:
    layouts = "; or ".join(KNOWN_LAYOUTS[name].files for name in names)
    source = f"; {benchmark.title} is available from {benchmark.homepage}" if benchmark.homepage else ""
    return f"expected: {layouts}{source}; give the folder that directly holds these files"
