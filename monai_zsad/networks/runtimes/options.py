"""Options of the runtimes, and their checks."""

from __future__ import annotations

import importlib.util
import os
from typing import Literal, get_args

import torch

from monai_zsad.errors import ConfigurationError

__all__ = ["PACKAGES", "PRECISIONS", "Runtime", "check_runtime"]

Runtime = Literal["torch", "onnx", "openvino"]
PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
PACKAGES = {"onnx": ("onnxruntime", "export"), "openvino": ("openvino", "openvino")}


def check_runtime(
    runtime: str,
    precision: str,
    device: str | torch.device,
    amp: bool | str = False,
    file: str | os.PathLike[str] | None = None,
) -> None:
    """Check the options of :func:`with_runtime` before weights are loaded.

    Args:
        runtime: ``"torch"``, ``"onnx"`` or ``"openvino"``.
        precision: precision of the vision towers.
        device: device of the run.
        amp: whether the run uses autocast.
        file: exported file, if the user gives one.

    Raises:
        ConfigurationError: for an unknown runtime, precision or device, a device that this machine lacks, a runtime
            that is not installed, or options that do not go together.
    """
    if runtime not in get_args(Runtime):
        names = ", ".join(map(repr, get_args(Runtime)))
        raise ConfigurationError(f"runtime={runtime!r} is unknown: choose one of {names}")
    if precision not in PRECISIONS:
        raise ConfigurationError(f"precision={precision!r}: choose float32, bfloat16 or float16")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigurationError(f"device={device!r} is not a device: use 'cpu', 'cuda' or 'cuda:0'") from error
    if runtime == "torch":
        if file is not None:
            raise ConfigurationError(f"runtime_file={file} is for runtime onnx or openvino: set one of them")
        if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
            raise ConfigurationError(
                f"device={device!r} is not on this machine, which has {torch.cuda.device_count()} CUDA devices: use "
                "'cpu'"
            )
        return
    if found.type != "cpu":
        raise ConfigurationError(f"runtime={runtime!r} computes on the CPU, but device is {device}: add --device cpu")
    if str(amp).lower() == "true":
        raise ConfigurationError(f"amp=true needs runtime torch: leave it out with runtime={runtime!r}")
    if runtime == "onnx" and precision != "float32":
        raise ConfigurationError(
            f"runtime='onnx' computes in float32, but precision is {precision}: use float32, or runtime openvino"
        )
    package, extra = PACKAGES[runtime]
    if importlib.util.find_spec(package) is None:
        raise ConfigurationError(
            f"runtime={runtime!r} needs the package {package}: pip install 'monai-zsad[{extra}]', or use runtime torch"
        )
