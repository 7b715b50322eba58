"""Metrics of anomaly detection that MONAI does not have, or that it computes in ways that do not suit large data sets.

Functions are exact. Classes are MONAI's ``CumulativeIterationMetric``. They gather the samples of all processes, which
may have different numbers of samples. Classes that sum histograms also return bounds of the exact value.
Names are imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
