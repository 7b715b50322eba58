"""Options of the runtimes, and their checks."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from monai_zsad.errors import ConfigurationError, InputError, did_you_mean

if TYPE_CHECKING:
    import torch

__all__ = ["DEVICES", "PACKAGES", "PRECISIONS", "Runtime", "check_device", "check_runtime", "require_file"]

Runtime = Literal["auto", "torch", "onnx", "openvino"]
PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
DEVICES = (
    "cpu", "cuda", "ipu", "xpu", "mkldnn", "opengl", "opencl", "ideep", "hip", "ve", "fpga", "maia", "xla", "lazy",
    "vulkan", "mps", "meta", "hpu", "mtia", "privateuseone",
)  # fmt: skip
"""Kinds of devices that ``torch.device`` knows."""

_USUAL = ("cpu", "cuda", "mps", "xpu")
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
        runtime: ``"auto"``, ``"torch"``, ``"onnx"`` or ``"openvino"``.
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
    kind, index = _parsed(device)
    if runtime in ("auto", "torch"):
        if file is not None:
            raise ConfigurationError(f"runtime_file={file} is for runtime onnx or openvino: set one of them")
        check_device(device)
        if kind == "cuda" and (count := _cuda_devices()) is not None and index >= count:
            raise ConfigurationError(
                f"device={str(device)!r} is not on this machine, which has {count} CUDA devices: use 'cpu'"
            )
        return
    if kind != "cpu":
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


def require_file(file: Path, runtime: str) -> None:
    """Check the exported file that the user gives for a runtime.

    Raises:
        ConfigurationError: if the runtime reads other files.
        InputError: if the file does not exist.
    """
    kinds = (".onnx", ".xml") if runtime == "openvino" else (".onnx",)
    if file.suffix not in kinds:
        raise ConfigurationError(f"runtime_file={file}: runtime {runtime} reads {' and '.join(kinds)} files")
    if not file.is_file():
        raise InputError(f"runtime_file={file} does not exist: check the path, or leave it out")


def check_device(device: str | torch.device) -> tuple[str, int]:
    """Refuse what is no device, and what this machine certainly lacks. It does not import torch.

    Args:
        device: as ``torch.device`` takes it.

    Returns:
        Its kind and its number.

    Raises:
        ConfigurationError: naming the device, and what can be used.

    Example:
        >>> check_device("cpu"), check_device("cpu:0")
        (('cpu', 0), ('cpu', 0))
    """
    kind, index = _parsed(device)
    if lacking := _lacking(kind):
        raise ConfigurationError(f"device={str(device)!r} is not on this machine ({lacking}): use 'cpu'")
    return kind, index


def _parsed(device: str | torch.device) -> tuple[str, int]:
    match = re.fullmatch(r"([a-z]+)(?::(0|[1-9]\d*))?", str(device))
    if match is None or match[1] not in DEVICES:
        hint = "did you mean cuda?" if str(device).lower() == "gpu" else did_you_mean(device, _USUAL, listed=False)
        remedy = f"{hint} Use" if hint else "use"
        raise ConfigurationError(f"device={str(device)!r} is not a device; {remedy} 'cpu', 'cuda' or 'cuda:0'")
    return match[1], int(match[2] or 0)


def _lacking(kind: str) -> str:
    """Why no device of this kind can be used here; empty where only torch can tell."""
    if kind == "mps":
        return "" if sys.platform == "darwin" else "it is for macOS"
    if kind != "cuda":
        return ""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides its GPUs"
    built = _built_for()
    if not built:
        return "this PyTorch was built without CUDA"
    return "" if built != "cuda" or _has_driver() else "it has no NVIDIA driver"


@functools.cache
def _built_for() -> str:
    """``"cuda"``, ``"hip"`` or an empty string, from the file in which PyTorch states it; ``"?"`` if it does not."""
    spec = importlib.util.find_spec("torch")
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8") if spec and spec.origin else ""
    except OSError:
        text = ""
    stated = dict(re.findall(r"^(cuda|hip)\b[^=\n]*= *(\S+)", text, re.MULTILINE))
    if "cuda" not in stated:
        return "?"
    return next((kind for kind, version in stated.items() if version != "None"), "")


@functools.cache
def _has_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _cuda_devices() -> int | None:
    """How many GPUs torch finds; None before torch is imported, which takes seconds. The run itself asks again."""
    torch = sys.modules.get("torch")
    return None if torch is None else torch.cuda.device_count()
