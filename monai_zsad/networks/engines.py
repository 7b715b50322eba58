"""What runs a network: PyTorch, or OpenVINO on CPUs."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from monai_zsad.errors import ConfigurationError
from monai_zsad.networks.base import ZeroShotNetwork
from monai_zsad.networks.maps import map_and_score

__all__ = ["Engine", "OpenVINONetwork", "with_engine"]

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
    if engine == "torch":
        network.set_precision(precision)
        return network.to(device)
    if engine != "openvino":
        raise ConfigurationError(f"engine={engine!r} is unknown: choose 'torch' or 'openvino'")
    if torch.device(device).type != "cpu":
        raise ConfigurationError(f"engine='openvino' computes on the CPU, device is {device}: add --device cpu")
    return OpenVINONetwork(network, precision)


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
        if precision not in _OPENVINO_PRECISIONS:
            raise ConfigurationError(f"precision={precision!r}: choose {', '.join(_OPENVINO_PRECISIONS)}")
        if getattr(network, "image_conditioned", False):
            raise ConfigurationError("image-conditioned prompts need the text tower at run time: use engine='torch'")
        network.set_precision(torch.float32)
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
