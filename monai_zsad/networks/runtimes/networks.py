"""Networks run by PyTorch, or as an exported copy by ONNX Runtime or OpenVINO on CPUs."""

from __future__ import annotations

import importlib.util
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from monai_zsad.backbones.weights import sha256_of
from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.networks.base import ZeroShotNetwork
from monai_zsad.networks.maps import map_and_score
from monai_zsad.networks.runtimes.export_cache import exported_file
from monai_zsad.networks.runtimes.options import PACKAGES, PRECISIONS, Runtime, check_runtime, require_file

__all__ = ["ONNXNetwork", "OpenVINONetwork", "with_runtime"]

logger = logging.getLogger(__name__)
# Largest difference between an exported network and PyTorch in float32. Other weights or prompts exceed it.
_BOUND = 1e-3
# The same for a network that is exported although the user did not ask for it.
_EXACT = 1e-5


def with_runtime(
    network: ZeroShotNetwork,
    runtime: Runtime = "torch",
    precision: str = "float32",
    device: str | torch.device = "cpu",
    file: str | os.PathLike[str] | None = None,
    amp: bool | str = False,
) -> nn.Module:
    """Prepare a network for its runtime, precision and device.

    Args:
        network: network with loaded weights.
        runtime: ``"torch"``; ``"onnx"`` (the ``export`` extra) or ``"openvino"`` (the ``openvino`` extra), CPU only.
            ``"auto"``: OpenVINO on a CPU, if it is installed, can run this network, and differs from PyTorch by at
            most 1e-5; otherwise PyTorch.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``; ONNX Runtime computes in float32 only.
        device: device of the computation.
        file: exported file of this network (``.onnx``, for OpenVINO also ``.xml``), as ``python -m monai.bundle
            onnx_export`` writes it. ``None``: the network is exported on first use, and the file is kept.
        amp: whether the run uses autocast, which PyTorch alone can do.

    Returns:
        A module with the same input and output, (B, C, H, W) to (B, 2, H, W), with ``image_size`` and ``patch_size``.

    Raises:
        ConfigurationError: if :func:`check_runtime` refuses the options, the network cannot be exported, or the file
            holds another network.
        InputError: if the file is missing or damaged.
    """
    check_runtime(runtime, precision, device, amp, file)
    if runtime == "auto":
        found = _fast_network(network, precision, device, amp)
        if found is not None:
            return found
        runtime = "torch"
    if runtime == "torch":
        network.runtime, network.runtime_precision, network.runtime_file = runtime, None, None
        if network.records:  # otherwise weights are still to be loaded
            network.speed_up()
        network.set_precision(precision)
        return network.to(device)
    return OpenVINONetwork(network, precision, file) if runtime == "openvino" else ONNXNetwork(network, file)


def _fast_network(
    network: ZeroShotNetwork, precision: str, device: str | torch.device, amp: bool | str
) -> nn.Module | None:
    """The network run by OpenVINO; None, with a line in the log, where PyTorch has to run it."""
    if not str(device).startswith("cpu") or str(amp).lower() == "true" or not network.records:
        return None
    if importlib.util.find_spec("openvino") is None:
        logger.info("PyTorch runs the network; OpenVINO is faster on CPUs: pip install 'monai-zsad[openvino]'")
        return None
    try:
        return OpenVINONetwork(network, precision, bound=_EXACT)
    except (ConfigurationError, InputError) as error:
        logger.info("PyTorch runs the network: %s", error)
        return None


class _ExportedNetwork(nn.Module, ABC):
    """Runs the exported copy of a network. Slices and maps are resized in PyTorch.

    Text anchors are an input of the files that are exported here, so that the prompts may depend on the scan. Other
    files may have fixed text anchors; then ``network.fixed_anchors`` is true.

    ``difference`` is the largest difference from PyTorch in float32 on one image, measured when the file was made or
    given.
    """

    runtime: Runtime

    def __init__(
        self,
        network: ZeroShotNetwork,
        precision: str = "float32",
        file: str | os.PathLike[str] | None = None,
        *,
        bound: float = _BOUND,
    ) -> None:
        super().__init__()
        check_runtime(self.runtime, precision, "cpu")
        _refuse_unfit(network, self.runtime)
        network.set_precision(torch.float32)
        self.network = network.cpu().eval()
        self.image_size = network.image_size
        self.patch_size = network.patch_size
        network.fixed_anchors = False
        self._given = file is not None
        if file is None:
            path, self.difference = exported_file(network, self.runtime, self._check, bound)
            if self.difference > bound:
                raise ConfigurationError(
                    f"{PACKAGES[self.runtime][0]} differs from PyTorch by {self.difference:.2g}, more than {bound:g}: "
                    "use runtime torch"
                )
        else:
            path = Path(file)
            require_file(path, self.runtime)
            self.difference = self._check(path)
        if file is None or precision != "float32":
            self._load(path, precision)
        network.runtime, network.runtime_precision = self.runtime, precision
        network.runtime_file = None if file is None else sha256_of(path)

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in [0, 1] to what the network gives: anomaly map, image score and others, float32.

        Raises:
            MemoryError: if the memory is not enough for this batch.
        """
        images = self.network.resize(slices.detach().cpu())[:, : self._channels].contiguous()
        arrays = [images.numpy()]
        if not self.network.fixed_anchors:
            arrays.append(self.network.text_anchors.detach().float().numpy())
        try:
            found = self._run(arrays)
        except Exception as error:  # each runtime has its own classes of errors
            if any(text in str(error) for text in ("bad_alloc", "Failed to allocate memory", "bad allocation")):
                raise MemoryError(str(error)) from error
            raise
        pred = torch.from_numpy(np.array(found, dtype=np.float32))
        return map_and_score(pred[:, 0], pred[:, 1:, 0, 0], slices.shape[-2:])

    def _load(self, file: Path, precision: str) -> None:
        """Open a file for :meth:`_run`."""
        try:
            shapes = self._open(file, precision)
        except Exception as error:  # each runtime has its own classes of errors
            raise InputError(
                f"{file} cannot be opened by {PACKAGES[self.runtime][0]} ({str(error).splitlines()[0][:200]}): "
                + ("export it again, or leave out runtime_file" if self._given else "use runtime torch")
            ) from error
        size = self.image_size
        fits = len(shapes) in (1, 2) and len(shapes[0]) == 4 and shapes[0][1] in (1, 3)
        if not fits or list(shapes[0][2:]) != [size, size] or shapes[0][0] is not None:
            shown = " and ".join(str(["batch" if n is None else n for n in shape]) for shape in shapes)
            raise ConfigurationError(
                f"{file} takes {shown}, but this network needs [batch, 1 or 3, {size}, {size}] with any batch: "
                "export it with dynamic axes at this image_size, as the bundle's README shows, or leave out "
                "runtime_file"
            )
        self._channels = shapes[0][1]
        self.network.fixed_anchors = len(shapes) == 1

    def _check(self, file: Path) -> float:
        """Largest difference between the result of a file and that of PyTorch."""
        self._load(file, "float32")
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(1, 1, 8, 8, generator=generator)
        size = (self.image_size, self.image_size)
        image = nn.functional.interpolate(coarse, size, mode="bilinear") * torch.rand(1, 1, *size, generator=generator)
        with torch.no_grad():
            difference = float((self(image) - self.network(image)).abs().max())
        # This form refuses NaN too, which comes from weights that were never loaded.
        if not difference <= _BOUND:
            remedy = "export it again, or leave out runtime_file" if self._given else "use runtime torch"
            raise ConfigurationError(
                f"{file.name} gives maps or scores that differ by {difference:.2g} from this network in PyTorch, more "
                f"than {_BOUND:g}. It was probably exported with other weights, prompts or options: {remedy}"
            )
        return difference

    @abstractmethod
    def _open(self, file: Path, precision: str) -> list[list[int | None]]:
        """Open a file. Returns the shapes of its inputs, with ``None`` for an open size."""

    @abstractmethod
    def _run(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Run the opened file."""


class ONNXNetwork(_ExportedNetwork):
    """A network run by ONNX Runtime on a CPU, in float32, with as many threads as PyTorch has.

    Args:
        network: network with loaded weights.
        file: exported file of the network, ``.onnx``; ``None``: it is made on first use.

    Raises:
        ConfigurationError: if ONNX Runtime is not installed, the network cannot be exported, or the file
            holds another network.
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
        network: network with loaded weights.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        file: exported file of the network, ``.onnx`` or ``.xml``; ``None``: it is made on first use.
        bound: largest difference from PyTorch in float32 that is accepted, for ``file=None``.

    Raises:
        ConfigurationError: if OpenVINO is not installed, the network cannot be exported, or the file
            holds another network.
        InputError: if the file is missing or damaged.
    """

    runtime: Runtime = "openvino"

    def _open(self, file: Path, precision: str) -> list[list[int | None]]:
        options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
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
    """One core for all networks, kept until the process ends.

    Each core of OpenVINO 2026.4 sets a stack for signals in its thread and frees it at its end. If two cores end in the
    order in which they began, a freed stack stays in use, and the next signal kills the process.
    """
    import openvino

    return openvino.Core()


def _refuse_unfit(network: ZeroShotNetwork, runtime: str) -> None:
    if getattr(network, "image_conditioned", False):
        raise ConfigurationError("image-conditioned prompts need the text tower at run time: use runtime torch")
    if getattr(network, "adaptation", None) is not None:
        raise ConfigurationError(
            f"runtime={runtime!r} cannot run the adaptation, which trains on every slice: leave out adaptation, or use "
            "runtime torch"
        )
