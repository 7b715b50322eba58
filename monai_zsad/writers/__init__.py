"""Writers of results: maps, label maps, figures, reports, DICOM objects, findings, scores and manifests.

Names are imported on first use, as most writers need MONAI.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
