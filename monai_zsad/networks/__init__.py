"""Zero-shot anomaly networks: (B, C, H, W) slices in [0, 1] to (B, 2, H, W) map and score.

Names are imported on first use, as the networks need torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
