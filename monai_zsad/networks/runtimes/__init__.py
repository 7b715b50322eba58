"""The runtimes of a network: PyTorch, ONNX Runtime, OpenVINO. Names are imported on first use, as torch is heavy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
