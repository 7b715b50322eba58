"""CLIP and the dense priors: architectures, weights, dense features.

Names are imported on first use, so that the commands for weights run without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
