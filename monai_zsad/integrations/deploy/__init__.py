"""Application package for MONAI Deploy. Only ``app`` imports MONAI Deploy's SDK."""
