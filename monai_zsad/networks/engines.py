"""What runs a network: PyTorch, or an exported copy of it in ONNX Runtime or OpenVINO on CPUs."""

from __future__ import annotations

import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from monai_zsad.backbones.weights import sha256_of
from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.networks.base import ZeroShotNetwork
from monai_zsad.networks.exported import exported_file
from monai_zsad.networks.maps import map_and_score

__all__ = ["ONNXNetwork", "OpenVINONetwork", "check_runtime", "with_runtime"]

Runtime = Literal["torch", "onnx", "openvino"]
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_PACKAGES = {"onnx": ("onnxruntime", "export"), "openvino": ("openvino", "openvino")}
# Largest difference in float32 of an exported network from the one in PyTorch; other weights or words give more.
_BOUND = 1e-3


def with_runtime(
    network: ZeroShotNetwork,
    runtime: Runtime = "torch",
    precision: str = "float32",
    device: str | torch.device = "cpu",
    file: str | os.PathLike[str] | None = None,
) -> nn.Module:
    """The network on its device, in its precision, run by the runtime.

    Args:
        network: with its weights loaded.
        runtime: ``"torch"``; ``"onnx"`` (the ``export`` extra) or ``"openvino"`` (the ``openvino`` extra), CPU only.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``; ONNX Runtime computes in float32 only.
        device: where slices are computed.
        file: an export of this network to run (``.onnx``, for OpenVINO also ``.xml``), such as
            ``python -m monai.bundle onnx_export`` writes; ``None``: it is exported on the first use and kept.

    Returns:
        A module of the same contract, (B, C, H, W) to (B, 2, H, W), with ``image_size`` and ``patch_size``.

    Raises:
        ConfigurationError: for what :func:`check_runtime` refuses, a network that cannot be exported, or a file that
            holds another network.
        InputError: if the file is missing or damaged.
    """
    check_runtime(runtime, precision, device, file=file)
    if runtime == "torch":
        network.runtime, network.runtime_precision, network.runtime_file = runtime, None, None
        network.set_precision(precision)
        return network.to(device)
    return OpenVINONetwork(network, precision, file) if runtime == "openvino" else ONNXNetwork(network, file)


def check_runtime(
    runtime: str,
    precision: str,
    device: str | torch.device,
    amp: bool | str = False,
    file: str | os.PathLike[str] | None = None,
) -> None:
    """Raise what :func:`with_runtime` would raise of its options, before weights are loaded.

    Args:
        runtime: see :func:`with_runtime`, as all.
        precision: of the vision towers.
        device: of the run.
        amp: whether the run uses autocast.
        file: of an engine, where one is given.

    Raises:
        ConfigurationError: for an unknown runtime, precision or device, a device that this machine lacks, a runtime
            that is not installed, or options that do not go together.
    """
    if runtime not in get_args(Runtime):
        names = ", ".join(map(repr, get_args(Runtime)))
        raise ConfigurationError(f"runtime={runtime!r} is unknown: choose one of {names}")
    if precision not in _PRECISIONS:
        raise ConfigurationError(f"precision={precision!r}: choose float32, bfloat16 or float16")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigurationError(f"device={device!r} is no device: use 'cpu', 'cuda' or 'cuda:0'") from error
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
        raise ConfigurationError(f"runtime={runtime!r} computes on the CPU, device is {device}: add --device cpu")
    if str(amp).lower() == "true":
        raise ConfigurationError(f"amp=true is PyTorch's: leave it out with runtime={runtime!r}, or use runtime torch")
    if runtime == "onnx" and precision != "float32":
        raise ConfigurationError(
            f"runtime='onnx' computes in float32 on a CPU, precision is {precision}: use float32, or runtime openvino"
        )
    package, extra = _PACKAGES[runtime]
    if importlib.util.find_spec(package) is None:
        raise ConfigurationError(
            f"runtime={runtime!r} needs the package {package}: pip install 'monai-zsad[{extra}]', or use runtime torch"
        )


class _ExportedNetwork(nn.Module, ABC):
    """A network whose exported copy is run; bringing slices to the input size and maps back stays in PyTorch.

    The text anchors are an input of what is exported here, so that words may follow the scan. Where a file has them
    folded in, ``network.fixed_words`` tells.
    """

    runtime: Runtime

    def __init__(
        self, network: ZeroShotNetwork, precision: str = "float32", file: str | os.PathLike[str] | None = None
    ) -> None:
        super().__init__()
        check_runtime(self.runtime, precision, "cpu")
        _refuse_unfit(network, self.runtime)
        network.set_precision(torch.float32)
        self.network = network.cpu().eval()
        self.image_size = network.image_size
        self.patch_size = network.patch_size
        network.fixed_words = False
        self._given = file is not None
        path = exported_file(network, self.runtime, self._check) if file is None else Path(file)
        if file is not None:
            _require_file(path, self.runtime)
            self._check(path)
        if file is None or precision != "float32":
            self._load(path, precision)
        network.runtime, network.runtime_precision = self.runtime, precision
        network.runtime_file = None if file is None else sha256_of(path)

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in [0, 1] to (B, 2, H, W): anomaly map and image score, float32.

        Raises:
            MemoryError: if the runtime cannot get the memory for so many slices.
        """
        pictures = self.network.resize(slices.detach().cpu())[:, : self._channels].contiguous()
        arrays = [pictures.numpy()]
        if not self.network.fixed_words:
            arrays.append(self.network.text_anchors.detach().float().numpy())
        try:
            found = self._run(arrays)
        except Exception as error:  # each runtime has classes of its own
            if any(words in str(error) for words in ("bad_alloc", "Failed to allocate memory", "bad allocation")):
                raise MemoryError(str(error)) from error
            raise
        pred = torch.from_numpy(np.array(found, dtype=np.float32))
        return map_and_score(pred[:, 0], pred[:, 1, 0, 0], slices.shape[-2:])

    def _load(self, file: Path, precision: str) -> None:
        """Open a file for :meth:`_run`."""
        try:
            shapes = self._open(file, precision)
        except Exception as error:  # each runtime has classes of its own
            raise InputError(
                f"{file} cannot be opened by {_PACKAGES[self.runtime][0]} ({str(error).splitlines()[0][:200]}): "
                + ("export it anew, or leave out runtime_file" if self._given else "use runtime torch")
            ) from error
        size = self.image_size
        fits = len(shapes) in (1, 2) and len(shapes[0]) == 4 and shapes[0][1] in (1, 3)
        if not fits or list(shapes[0][2:]) != [size, size] or shapes[0][0] is not None:
            shown = " and ".join(str(["batch" if n is None else n for n in shape]) for shape in shapes)
            raise ConfigurationError(
                f"{file} takes {shown}: this network's export takes [batch, 1 or 3, {size}, {size}] with any batch; "
                "export it with dynamic axes at this image_size, as the bundle's README shows, or leave out "
                "runtime_file"
            )
        self._channels = shapes[0][1]
        self.network.fixed_words = len(shapes) == 1

    def _check(self, file: Path) -> None:
        """Compare a file's result with PyTorch's."""
        self._load(file, "float32")
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(1, 1, 8, 8, generator=generator)
        size = (self.image_size, self.image_size)
        picture = nn.functional.interpolate(coarse, size, mode="bilinear") * torch.rand(
            1, 1, *size, generator=generator
        )
        with torch.no_grad():
            difference = float((self(picture) - self.network(picture)).abs().max())
        # So written that NaN, of weights that were never loaded, is refused too.
        if not difference <= _BOUND:
            remedy = "export it anew, or leave out runtime_file" if self._given else "use runtime torch"
            raise ConfigurationError(
                f"{file.name} gives maps or scores that differ by {difference:.2g} from this network in PyTorch, above "
                f"{_BOUND:g}, as if it were exported with other weights, words or options: {remedy}"
            )

    @abstractmethod
    def _open(self, file: Path, precision: str) -> list[list[int | None]]:
        """Open a file; shapes of its inputs, ``None`` where any number will do."""

    @abstractmethod
    def _run(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Result of the opened file."""


class ONNXNetwork(_ExportedNetwork):
    """A network run by ONNX Runtime on a CPU, in float32, with as many threads as PyTorch has.

    Args:
        network: with its weights loaded.
        file: an export of it, ``.onnx``; ``None``: made on the first use.

    Raises:
        ConfigurationError: if ONNX Runtime is not installed, the network cannot be exported, or the file is another's.
        InputError: if the file is missing or damaged.
    """

    runtime: Runtime = "onnx"

    def __init__(self, network: ZeroShotNetwork, file: str | os.PathLike[str] | None = None) -> None:
        super().__init__(network, "float32", file)

    def _open(self, file: Path, precision: str) -> list[list[int | None]]:
        del precision
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session: Any = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self._names = [wanted.name for wanted in self._session.get_inputs()]
        return [
            [side if isinstance(side, int) else None for side in wanted.shape] for wanted in self._session.get_inputs()
        ]

    def _run(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return self._session.run(None, dict(zip(self._names, arrays, strict=True)))[0]


class OpenVINONetwork(_ExportedNetwork):
    """A network compiled by OpenVINO for a CPU, with as many threads as PyTorch has.

    Args:
        network: with its weights loaded.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        file: an export of it, ``.onnx`` or ``.xml``; ``None``: made on the first use.

    Raises:
        ConfigurationError: if OpenVINO is not installed, the network cannot be exported, or the file is another's.
        InputError: if the file is missing or damaged.
    """

    runtime: Runtime = "openvino"

    def _open(self, file: Path, precision: str) -> list[list[int | None]]:
        options = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        core = _openvino()
        self._compiled: Any = core.compile_model(core.read_model(file), "CPU", options)
        return [
            [side.get_length() if side.is_static else None for side in wanted.partial_shape]
            for wanted in self._compiled.inputs
        ]

    def _run(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        (found,) = self._compiled(list(arrays)).values()
        return found


@cache
def _openvino() -> Any:
    """One for all networks, kept until the end.

    OpenVINO 2026.4 gives the thread a stack for signals with each, and takes it away with it. Where two end in the
    order in which they began, the older one's, already freed, stays in use, and the next signal ends the process.
    """
    import openvino

    return openvino.Core()


def _refuse_unfit(network: ZeroShotNetwork, runtime: str) -> None:
    if getattr(network, "image_conditioned", False):
        raise ConfigurationError("image-conditioned prompts need the text tower at run time: use runtime torch")
    if getattr(network, "adaptation", None) is not None:
        raise ConfigurationError(
            f"adaptation trains on every slice at run time, which runtime={runtime!r} cannot: leave out adaptation, or "
            "use runtime torch"
        )


def _require_file(file: Path, runtime: str) -> None:
    kinds = (".onnx", ".xml") if runtime == "openvino" else (".onnx",)
    if file.suffix not in kinds:
        raise ConfigurationError(f"runtime_file={file}: runtime {runtime} reads {' and '.join(kinds)} files")
    if not file.is_file():
        raise InputError(f"runtime_file={file} does not exist: check the path, or leave it out")
