"""Export of networks to files for other runtimes. Each file is made once and kept on disk."""

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
# Increase this number when exports change although the package's sources do not.
_VERSION = 1
_FILES = {"onnx": ("network.onnx", "network.onnx.data"), "openvino": ("network.xml", "network.bin")}
_MAKERS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}
# Buffers that are inputs of the exported network, or that it does not use.
_OF_PROMPTS = ("text_anchors", "prompt_features")


def export_folder() -> Path:
    """Folder of the exported networks, beside the weights. It may be removed at any time."""
    return weights_folder().parent / "exported_networks"


def exported_file(network: ZeroShotNetwork, runtime: str, check: Callable[[Path], None]) -> Path:
    """Exported file of a network for a runtime. On first use it is made and compared with the network.

    Its folder is named by a hash of the weights, architecture, options and input size, of this package's source and of
    the versions of the packages that export. Text anchors are an input of the exported network. The file holds
    float32; the precision is chosen when it is opened.

    Args:
        network: network with loaded weights, float32, on the CPU.
        runtime: ``"onnx"`` or ``"openvino"``.
        check: raises an error if the file does not compute the same as the network.

    Returns:
        The file to open, ``.onnx`` or ``.xml``; its weights lie beside it.

    Raises:
        ConfigurationError: if a package that the export needs is not installed.
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
        logger.info("the exported file is not kept: %s cannot be written (%s)", folder.parent, error)
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
    """Rename a complete folder to its final name. Another process may have made that folder first."""
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


class _WithAnchors(nn.Module):
    """A network with its text anchors as an input."""

    def __init__(self, network: ZeroShotNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor, text_anchors: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) in [0, 1] and (1, 2, D) to (B, 2, S, S)."""
        return torch.func.functional_call(self.network, {"text_anchors": text_anchors}, (images,))


def _export(network: ZeroShotNetwork, runtime: str, target: Path) -> None:
    images = torch.zeros(2, 3, network.image_size, network.image_size)
    shapes = ({0: torch.export.Dim("batch", min=1, max=4096)}, None)
    with torch.no_grad():
        program = torch.export.export(
            _WithAnchors(network).eval(), (images, network.text_anchors.float()), dynamic_shapes=shapes
        )
        if runtime == "openvino":
            import openvino

            model = openvino.convert_model(program)
            # OpenVINO treats every size of an exported program as variable.
            model.reshape({0: [-1, *images.shape[1:]], 1: list(network.text_anchors.shape)})
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
    """Name of the folder of an exported network: a hash of everything that its result depends on, except prompts."""
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
