"""Screening from Python: what may be given, how a run is made, and what it returns."""
