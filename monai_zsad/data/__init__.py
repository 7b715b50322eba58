"""Finding, checking and reading scans; benchmark sets.

Names are imported on first use, so that a look at the headers needs neither torch nor MONAI.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
