"""Export of networks to files for other runtimes and programs."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from monai_zsad.errors import ConfigurationError
from monai_zsad.networks.base import ZeroShotNetwork

__all__ = ["FORMATS", "MAKERS", "require_packages", "write_network", "write_with_anchors"]

FORMATS = {"pt2": ".pt2", "onnx": ".onnx", "openvino": ".xml", "torchscript": ".ts"}
"""Formats of :func:`write_network`, and the endings of their files."""

MAKERS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}
"""Packages that an export for a runtime needs."""


class _WithAnchors(nn.Module):
    """A network with its text anchors as an input."""

    def __init__(self, network: ZeroShotNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor, text_anchors: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) in [0, 1] and (1, 2, D) to (B, 2, S, S)."""
        return torch.func.functional_call(self.network, {"text_anchors": text_anchors}, (images,))


def write_with_anchors(network: ZeroShotNetwork, runtime: str, target: Path) -> None:
    """Write a network to a file whose text anchors are an input, so that the prompts may depend on the scan.

    Args:
        network: network with loaded weights, float32, on the CPU.
        runtime: ``"onnx"`` or ``"openvino"``.
        target: file to write, ``.onnx`` or ``.xml``. Its weights lie beside it.
    """
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
    require_packages(kind)
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


def require_packages(runtime: str) -> None:
    """Refuse a runtime or format whose packages are not installed.

    Raises:
        ConfigurationError: if a package is missing.
    """
    for package in MAKERS.get(runtime, ()):
        if importlib.util.find_spec(package) is None:
            raise ConfigurationError(
                f"runtime={runtime!r} needs the package {package}: pip install 'monai-zsad[export]'"
            )
