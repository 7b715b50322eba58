"""Between a bundle and MONAI's engine: options, the run over the cases, its results, and :func:`screen` for Python.

Names are imported on first use, so that the command line answers at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
