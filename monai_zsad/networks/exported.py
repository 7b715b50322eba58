"""Networks exported for other runtimes, kept on disk: made once, and never taken for those of another network."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch
from torch import nn

from monai_zsad.backbones.weights import sha256_of, weights_folder
from monai_zsad.errors import ConfigurationError
from monai_zsad.networks.base import ZeroShotNetwork

__all__ = ["export_folder", "export_key", "exported_file"]

logger = logging.getLogger(__name__)
# Raised when what is exported changes otherwise than by the package's own sources.
_VERSION = 1
_FILES = {"onnx": ("network.onnx", "network.onnx.data"), "openvino": ("network.xml", "network.bin")}
_MAKERS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}
# Inputs of what is exported, or of no part in it.
_WORDS = ("text_anchors", "prompt_features")


def export_folder() -> Path:
    """Where exported networks are kept, a folder for each: beside the weights. May be removed at any time."""
    return weights_folder().parent / "exported_networks"


def exported_file(network: ZeroShotNetwork, runtime: str, check: Callable[[Path], None]) -> Path:
    """The network's export for a runtime; made, and compared with the network, on the first use.

    The key is a hash of the weights' values, architecture, options and input size, of this package's source and of
    the versions of what exports. Text anchors are an input of the export. The precision is chosen where the file is
    opened: it holds float32.

    Args:
        network: with its weights loaded, float32, on the CPU.
        runtime: ``"onnx"`` or ``"openvino"``.
        check: raises if a file is not as the network.

    Returns:
        The file to open, ``.onnx`` or ``.xml``; its weights lie beside it.

    Raises:
        ConfigurationError: if what exports is not installed.
    """
    folder = export_folder() / export_key(network, runtime)
    target = folder / _FILES[runtime][0]
    if _is_whole(folder, runtime):
        return target
    for package in _MAKERS[runtime]:
        if importlib.util.find_spec(package) is None:
            raise ConfigurationError(
                f"runtime={runtime!r} needs the package {package}: pip install 'monai-zsad[export]'"
            )
    logger.info("exporting the network for %s, once: %s", runtime, folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
    except OSError as error:
        made = Path(tempfile.mkdtemp(prefix="monai_zsad_"))
        logger.info("the export is not kept: %s cannot be written (%s)", folder.parent, error)
        folder = made
    try:
        _export(network, runtime, made / target.name)
        check(made / target.name)
        sums = {name: sha256_of(made / name) for name in _FILES[runtime] if (made / name).is_file()}
        (made / "sha256.json").write_text(json.dumps(sums), encoding="utf-8")
        return _publish(made, folder, runtime) / target.name
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _publish(made: Path, folder: Path, runtime: str) -> Path:
    """Give a complete folder its name; another process may have been first."""
    if made == folder:
        return made
    for _ in range(2):
        with contextlib.suppress(OSError):
            return made.rename(folder)
        if _is_whole(folder, runtime):
            shutil.rmtree(made, ignore_errors=True)
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    return made


def _is_whole(folder: Path, runtime: str) -> bool:
    try:
        sums = json.loads((folder / "sha256.json").read_text(encoding="utf-8"))
        return _FILES[runtime][0] in sums and all(sha256_of(folder / name) == found for name, found in sums.items())
    except (OSError, ValueError, TypeError, AttributeError):
        return False


class _WithWords(nn.Module):
    """A network with its text anchors as an input."""

    def __init__(self, network: ZeroShotNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: torch.Tensor, text_anchors: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) in [0, 1] and (1, 2, D) to (B, 2, S, S)."""
        return torch.func.functional_call(self.network, {"text_anchors": text_anchors}, (pictures,))


def _export(network: ZeroShotNetwork, runtime: str, target: Path) -> None:
    pictures = torch.zeros(2, 3, network.image_size, network.image_size)
    shapes = ({0: torch.export.Dim("batch", min=1, max=4096)}, None)
    with torch.no_grad():
        program = torch.export.export(
            _WithWords(network).eval(), (pictures, network.text_anchors.float()), dynamic_shapes=shapes
        )
        if runtime == "openvino":
            import openvino

            model = openvino.convert_model(program)
            # OpenVINO takes every size of an exported program as open.
            model.reshape({0: [-1, *pictures.shape[1:]], 1: list(network.text_anchors.shape)})
            openvino.save_model(model, target, compress_to_fp16=False)
            return
        torch.onnx.export(
            program,
            (),
            target,
            input_names=["pictures", "text_anchors"],
            output_names=["pred"],
            dynamo=True,
            external_data=True,
            verbose=False,
        )


def export_key(network: ZeroShotNetwork, runtime: str) -> str:
    """Name of the folder of a network's export: a hash of all that decides what it computes, but its words."""
    packages = ("torch", "timm", "open_clip_torch", *_MAKERS[runtime])
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
        if name not in _WORDS:
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _plain_attributes(network: nn.Module) -> Iterator[tuple[str, str]]:
    """What decides a module's arithmetic beside its tensors: numbers, words, and lists of such."""
    for path, module in network.named_modules():
        yield path, f"{type(module).__module__}.{type(module).__qualname__}"
        for name, value in sorted(vars(module).items()):
            # How it is run is no part of what is exported.
            if name[0] == "_" or name == "fixed_words" or name.startswith("runtime"):
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
    """Hash of the modules that compute; in a checkout they change while the version stays."""
    digest = hashlib.sha256()
    for room in ("backbones", "networks"):
        for file in sorted((Path(__file__).parents[1] / room).glob("*.py")):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
