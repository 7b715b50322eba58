"""Screening inside MONAI Label's clients; only ``adapter`` needs MONAI Label itself."""
