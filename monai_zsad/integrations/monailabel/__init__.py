"""Screening in the clients of MONAI Label. Only ``adapter`` imports MONAI Label itself."""
