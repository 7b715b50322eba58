"""MONAI transforms for screening: windows, orientation, foreground, geometry, refined maps and lesion candidates.

Their order in a bundle: upright orientation, intensity, crop, in-plane spacing, square. Intensity comes before the
square, because the padding is 0, and 0 is black only after the values are scaled to [0, 1].

Names are imported on first use, as most of them need MONAI.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
