"""What a run shows and writes about itself: result lines, one progress bar, events for programs, and ``run.log``.

Names are imported on first use, so that the command line answers at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
