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
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch
from torch import nn

from monai_zsad.backbones.weights import sha256_of, weights_folder
from monai_zsad.errors import ConfigurationError
from monai_zsad.networks.base import ZeroShotNetwork

__all__ = ["FORMATS", "export_folder", "export_key", "exported_file", "write_network"]

FORMATS = {"pt2": ".pt2", "onnx": ".onnx", "openvino": ".xml", "torchscript": ".ts"}
"""Formats of :func:`write_network`, and the endings of their files."""

logger = logging.getLogger(__name__)
# Increase this number when exports change although the package's sources do not.
_VERSION = 1
_RECORD = "export.json"
_FILES = {"onnx": ("network.onnx", "network.onnx.data"), "openvino": ("network.xml", "network.bin")}
_MAKERS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}
# Buffers that are inputs of the exported network, or that it does not use.
_OF_PROMPTS = ("text_anchors", "prompt_features")


def export_folder() -> Path:
    """Folder of the exported networks, beside the weights. It may be removed at any time."""
    return weights_folder().parent / "exported_networks"


def exported_file(network: ZeroShotNetwork, runtime: str, check: Callable[[Path], float]) -> tuple[Path, float]:
    """Exported file of a network for a runtime. On first use it is made and compared with the network.

    Its folder is named by a hash of the weights, architecture, options and input size, of this package's source and of
    the versions of the packages that export. Text anchors are an input of the exported network. The file holds
    float32; the precision is chosen when it is opened.

    Args:
        network: network with loaded weights, float32, on the CPU.
        runtime: ``"onnx"`` or ``"openvino"``.
        check: largest difference between the file and the network; raises an error if the file is of another network.

    Returns:
        The file to open, ``.onnx`` or ``.xml``, with its weights beside it; and what ``check`` found when it was made.

    Raises:
        ConfigurationError: if a package that the export needs is not installed.
    """
    folder = export_folder() / export_key(network, runtime)
    target = folder / _FILES[runtime][0]
    difference = _recorded_difference(folder, runtime)
    if difference is not None:
        return target, difference
    _require_packages(runtime)
    logger.info("exporting the network for %s; this is done once", runtime)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
    except OSError as error:
        made = Path(tempfile.mkdtemp(prefix="monai_zsad_"))
        logger.info("the exported file is not kept: %s cannot be written (%s)", folder.parent, error)
        folder = made
    try:
        _export(network, runtime, made / target.name)
        difference = check(made / target.name)
        sums = {name: sha256_of(made / name) for name in _FILES[runtime] if (made / name).is_file()}
        record = {"sha256": sums, "difference": difference}
        (made / _RECORD).write_text(json.dumps(record), encoding="utf-8")
        return _publish(made, folder, runtime) / target.name, difference
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
        if _recorded_difference(folder, runtime) is not None:
            shutil.rmtree(made, ignore_errors=True)
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    return made


def _recorded_difference(folder: Path, runtime: str) -> float | None:
    """Difference from PyTorch, measured when the file was made; None if files are missing or damaged."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        sums = record["sha256"]
        is_whole = _FILES[runtime][0] in sums and all(sha256_of(folder / name) == found for name, found in sums.items())
        return float(record["difference"]) if is_whole else None
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return None


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
    inputs = {"pictures": images, "text_anchors": network.text_anchors.float()}
    _write_program(_program(_WithAnchors(network), *inputs.values()), runtime, inputs, target)


def write_network(network: ZeroShotNetwork, kind: str, target: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """Write a network with its prompts to a file for programs without this package.

    Args:
        network: network with loaded weights, float32, on the CPU.
        kind: one of :data:`FORMATS`.
        target: file to write, with the ending of the format. Its weights may lie in a second file beside it.

    Returns:
        What the written file computes: (B, 3, S, S) in [0, 1] to what the network gives.

    Raises:
        ConfigurationError: if a package is missing, or the network cannot be exported.
    """
    _require_packages(kind)
    images = torch.rand(2, 3, network.image_size, network.image_size, generator=torch.Generator().manual_seed(0))
    network = network.cpu().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about its formats and constants in traces
        return _written(network, images, kind, target)


def _written(
    network: ZeroShotNetwork, images: torch.Tensor, kind: str, target: Path
) -> Callable[[torch.Tensor], torch.Tensor]:
    try:
        if kind == "torchscript":
            with torch.no_grad():
                torch.jit.trace(network, images, check_trace=False).save(str(target))
            return torch.jit.load(str(target))
        program = _program(network, images)
        if kind == "pt2":
            torch.export.save(program, target)
            return torch.export.load(target).module()
        _write_program(program, kind, {"image": images}, target)
    except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
        raise ConfigurationError(
            f"{type(network).__name__} cannot be exported as {kind} ({str(error).splitlines()[0][:200]}): choose "
            "another format, and leave out adaptation and image-conditioned prompts"
        ) from error
    return _opened(kind, target)


def _opened(kind: str, file: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    if kind == "openvino":
        import openvino

        compiled = openvino.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda images: torch.from_numpy(compiled([images.numpy()])[0])
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"image": images.numpy()})[0])


def _program(module: nn.Module, *inputs: torch.Tensor) -> torch.export.ExportedProgram:
    """The exported module; the batch of its first input may have any size."""
    shapes = ({0: torch.export.Dim("batch", min=1, max=4096)}, *[None] * (len(inputs) - 1))
    with torch.no_grad():
        return torch.export.export(module.eval(), inputs, dynamic_shapes=shapes)


def _write_program(
    program: torch.export.ExportedProgram, runtime: str, inputs: dict[str, torch.Tensor], target: Path
) -> None:
    if runtime == "openvino":
        import openvino

        model = openvino.convert_model(program)
        # OpenVINO treats every size of an exported program as variable.
        shapes = [list(tensor.shape) for tensor in inputs.values()]
        model.reshape({number: [-1, *shape[1:]] if number == 0 else shape for number, shape in enumerate(shapes)})
        openvino.save_model(model, target, compress_to_fp16=False)
        return
    with torch.no_grad():
        torch.onnx.export(
            program,
            (),
            target,
            input_names=list(inputs),
            output_names=["pred"],
            dynamo=True,
            external_data=True,
            verbose=False,
        )


def _require_packages(runtime: str) -> None:
    for package in _MAKERS.get(runtime, ()):
        if importlib.util.find_spec(package) is None:
            raise ConfigurationError(
                f"runtime={runtime!r} needs the package {package}: pip install 'monai-zsad[export]'"
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
