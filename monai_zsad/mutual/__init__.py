"""Methods that score the images of a set by one another.

Such a method is no ``forward`` of one slice: the result of an image depends on the other images. Modules are imported
on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
