from .networks import ONNXNetwork, OpenVINONetwork, with_runtime
from .options import check_device, check_runtime

__all__ = ["ONNXNetwork", "OpenVINONetwork", "check_device", "check_runtime", "with_runtime"]
