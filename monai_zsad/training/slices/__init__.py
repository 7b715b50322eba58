"""Slices for the training of the included model: real tumours, painted lesions, and slices without a lesion.

Names are imported when they are first used, because PyTorch takes long to import.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
