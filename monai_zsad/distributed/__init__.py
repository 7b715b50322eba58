"""Several processes that share one run: claims on cases, ranks, the launcher and its workers.

Modules are imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
