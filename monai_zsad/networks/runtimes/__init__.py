"""The runtimes of a network: PyTorch, ONNX Runtime, OpenVINO."""

from monai_zsad.networks.runtimes.networks import ONNXNetwork, OpenVINONetwork, with_runtime
from monai_zsad.networks.runtimes.options import check_runtime

__all__ = ["ONNXNetwork", "OpenVINONetwork", "check_runtime", "with_runtime"]
