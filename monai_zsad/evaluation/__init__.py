"""Evaluation of a bundle on a benchmark set: protocols, stored predictions, metrics, published values.

Names are imported when they are first used, so protocols and published values do not need PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
