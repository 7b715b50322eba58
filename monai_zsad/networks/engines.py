"""What runs a network: PyTorch, or OpenVINO on CPUs."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from monai_zsad.errors import ConfigurationError
from monai_zsad.networks.base import ZeroShotNetwork
from monai_zsad.networks.maps import map_and_score

__all__ = ["Engine", "OpenVINONetwork", "check_engine", "with_engine"]

Engine = Literal["torch", "openvino"]
_OPENVINO_PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


def with_engine(
    network: ZeroShotNetwork,
    engine: Engine = "torch",
    precision: str = "float32",
    device: str | torch.device = "cpu",
) -> nn.Module:
    """The network on its device, in its precision, run by the engine.

    Args:
        network: with its weights loaded.
        engine: ``"torch"``, or ``"openvino"`` (CPU only; the ``openvino`` extra).
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        device: where slices are computed.

    Returns:
        A module of the same contract, (B, C, H, W) to (B, 2, H, W), with ``image_size`` and ``patch_size``.

    Raises:
        ConfigurationError: for an unknown engine or precision, or OpenVINO on another device or not installed.
    """
    check_engine(engine, precision, device)
    if engine == "openvino":
        return OpenVINONetwork(network, precision)
    network.set_precision(precision)
    return network.to(device)


def check_engine(engine: str, precision: str, device: str | torch.device) -> None:
    """Raise what :func:`with_engine` would raise, before weights are loaded.

    Raises:
        ConfigurationError: for an unknown engine, precision or device, a device that this machine lacks, or OpenVINO on
            another device than the CPU.
    """
    if engine not in get_args(Engine):
        raise ConfigurationError(f"engine={engine!r} is unknown: choose {' or '.join(map(repr, get_args(Engine)))}")
    if precision not in _OPENVINO_PRECISIONS:
        raise ConfigurationError(f"precision={precision!r}: choose float32, bfloat16 or float16")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigurationError(f"device={device!r} is no device: use 'cpu', 'cuda' or 'cuda:0'") from error
    if engine == "openvino" and found.type != "cpu":
        raise ConfigurationError(f"engine='openvino' computes on the CPU, device is {device}: add --device cpu")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(
            f"device={device!r} is not on this machine, which has {torch.cuda.device_count()} CUDA devices: use 'cpu'"
        )


class OpenVINONetwork(nn.Module):
    """A network compiled by OpenVINO, whose fused attention and matrix products suit CPUs better than PyTorch's.

    Measured figures are in the bundles' README. The text anchors are folded in, so image-conditioned prompts are not
    for it. Bringing slices to the input size and maps back stays in PyTorch.

    Args:
        network: with its weights loaded.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``.

    Raises:
        ConfigurationError: if OpenVINO is not installed, or the network needs its text tower at run time.
    """

    def __init__(self, network: ZeroShotNetwork, precision: str = "float32") -> None:
        super().__init__()
        try:
            import openvino
        except ImportError as error:
            raise ConfigurationError(
                "engine='openvino' needs the package openvino: pip install 'monai-zsad[openvino]'"
            ) from error
        check_engine("openvino", precision, "cpu")
        if getattr(network, "image_conditioned", False):
            raise ConfigurationError("image-conditioned prompts need the text tower at run time: use engine='torch'")
        network.set_precision(torch.float32)
        network.engine, network.engine_precision = "openvino", precision
        self.network = network.cpu().eval()
        self.image_size = network.image_size
        self.patch_size = network.patch_size
        example = torch.zeros(2, 3, self.image_size, self.image_size)
        batch = torch.export.Dim("batch", min=1, max=4096)
        with torch.no_grad():
            program = torch.export.export(self.network, (example,), dynamic_shapes=({0: batch},))
        model = openvino.convert_model(program)
        options = {"INFERENCE_PRECISION_HINT": _OPENVINO_PRECISIONS[precision], "PERFORMANCE_HINT": "LATENCY"}
        self._compiled: Any = openvino.Core().compile_model(model, "CPU", options)

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in [0, 1] to (B, 2, H, W): anomaly map and image score, float32."""
        pictures = self.network.resize(slices.cpu()).contiguous()
        (found,) = self._compiled([pictures.detach().numpy()]).values()
        pred = torch.from_numpy(np.array(found, dtype=np.float32))
        return map_and_score(pred[:, 0], pred[:, 1, 0, 0], slices.shape[-2:])
