"""Exported networks that are kept on disk, so that each of them is made once."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from torch import nn

from monai_zsad.backbones.weights import sha256_of, weights_folder
from monai_zsad.errors import WeightsError
from monai_zsad.networks.base import ZeroShotNetwork
from monai_zsad.networks.runtimes.export import MAKERS, require_packages, write_with_anchors

__all__ = ["export_folder", "export_key", "exported_file"]

logger = logging.getLogger(__name__)
# Increase this number when exports change although the package's sources do not.
_VERSION = 1
_RECORD = "export.json"
_FILES = {"onnx": ("network.onnx", "network.onnx.data"), "openvino": ("network.xml", "network.bin")}
# Buffers that are inputs of the exported network, or that it does not use.
_OF_PROMPTS = ("text_anchors", "prompt_features")
# The last used exported networks stay within this size; a ViT-L takes 1.2 GiB.
_KEPT_BYTES = 8 * 2**30
# Another process may be about to open a file that was used this recently, in seconds.
_IN_USE = 3600


def export_folder() -> Path:
    """Folder of the exported networks, beside the weights. It may be removed at any time.

    The networks that were not used for longest are removed when the folder exceeds 8 GiB.
    """
    return weights_folder().parent / "exported_networks"


def exported_file(
    network: ZeroShotNetwork, runtime: str, check: Callable[[Path], float], bound: float = math.inf
) -> tuple[Path, float]:
    """Exported file of a network for a runtime. On first use it is made and compared with the network.

    Its folder is named by a hash of the weights, architecture, options and input size, of this package's source and of
    the versions of the packages that export. Text anchors are an input of the exported network. The file holds
    float32; the precision is chosen when it is opened.

    Args:
        network: network with loaded weights, float32, on the CPU.
        runtime: ``"onnx"`` or ``"openvino"``.
        check: largest difference between the file and the network; raises an error if the file is of another network.
        bound: largest difference that is of use. Of a file that differs more, only the difference is kept.

    Returns:
        The file to open, ``.onnx`` or ``.xml``, with its weights beside it; and what ``check`` found when it was made.
        The file may be missing if the difference is above ``bound``.

    Raises:
        ConfigurationError: if a package that the export needs is not installed.
    """
    folder = export_folder() / export_key(network, runtime)
    target = folder / _FILES[runtime][0]
    difference = _recorded_difference(folder, runtime, bound)
    if difference is not None:
        with contextlib.suppress(OSError):
            os.utime(folder / _RECORD)
        return target, difference
    require_packages(runtime)
    logger.info("exporting the network for %s; this is done once", runtime)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
    except OSError as error:
        made = Path(tempfile.mkdtemp(prefix="monai_zsad_"))
        logger.info("the exported file is not kept: %s cannot be written (%s)", folder.parent, error)
        folder = made
    try:
        write_with_anchors(network, runtime, made / target.name)
        difference = check(made / target.name)
        sums = {name: sha256_of(made / name) for name in _FILES[runtime] if (made / name).is_file()}
        record = {"sha256": sums, "difference": difference}
        (made / _RECORD).write_text(json.dumps(record), encoding="utf-8")
        if difference > bound:
            for name in sums:
                with contextlib.suppress(OSError):  # on Windows, as long as it is open
                    (made / name).unlink()
        folder = _publish(made, folder, runtime, bound)
        _make_room(export_folder())
        return folder / target.name, difference
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _publish(made: Path, folder: Path, runtime: str, bound: float) -> Path:
    """Rename a complete folder to its final name. Another process may have made that folder first."""
    if made == folder:
        return made
    for _ in range(2):
        with contextlib.suppress(OSError):
            return made.rename(folder)
        if _recorded_difference(folder, runtime, bound) is not None:
            shutil.rmtree(made, ignore_errors=True)
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    return made


def _make_room(folder: Path) -> None:
    """Remove the exported networks that were not used for longest, until the others fit into ``_KEPT_BYTES``."""
    kept = 0
    for record in sorted(folder.glob(f"*/{_RECORD}"), key=_last_use, reverse=True):
        with contextlib.suppress(OSError):  # another process has just removed it
            kept += sum(file.stat().st_size for file in record.parent.iterdir())
        if kept > _KEPT_BYTES and time.time() - _last_use(record) > _IN_USE:
            logger.info("removing an exported network that was not used for long: %s", record.parent)
            shutil.rmtree(record.parent, ignore_errors=True)


def _last_use(record: Path) -> float:
    try:
        return record.stat().st_mtime
    except OSError:
        return 0.0


def _recorded_difference(folder: Path, runtime: str, bound: float) -> float | None:
    """Difference from PyTorch, measured when the file was made; None if files of use are missing or damaged."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        sums, difference = record["sha256"], float(record["difference"])
        is_whole = _FILES[runtime][0] in sums and (
            difference > bound or all(sha256_of(folder / name) == found for name, found in sums.items())
        )
        return difference if is_whole else None
    except (OSError, ValueError, TypeError, AttributeError, KeyError, WeightsError):
        return None


def export_key(network: ZeroShotNetwork, runtime: str) -> str:
    """Name of the folder of an exported network: a hash of everything that its result depends on, except prompts."""
    packages = ("torch", "timm", "open_clip_torch", *MAKERS[runtime])
    facts = [
        _VERSION,
        runtime,
        {name: _version(name) for name in packages},
        _sources(),
        network.clip.architecture_config,
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, text in _plain_attributes(network):
        digest.update(f"{name}={text};".encode())
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if name not in _OF_PROMPTS:
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _plain_attributes(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Attributes that a module's result depends on, besides tensors: numbers, strings, and lists of them."""
    for path, module in network.named_modules():
        yield path, f"{type(module).__module__}.{type(module).__qualname__}"
        for name, value in sorted(vars(module).items()):
            # The runtime is not part of the exported network.
            if name[0] == "_" or name == "fixed_anchors" or name.startswith("runtime"):
                continue
            with contextlib.suppress(TypeError, ValueError):
                yield f"{path}.{name}", json.dumps(value)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


@cache
def _sources() -> str:
    """Hash of the sources that compute. In a checkout they change without a change of the version."""
    digest = hashlib.sha256()
    for room in ("backbones", "networks"):
        for file in sorted((Path(__file__).parents[2] / room).rglob("*.py")):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
