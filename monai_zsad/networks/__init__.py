"""Zero-shot anomaly networks: (B, C, H, W) slices in [0, 1] to (B, 2, H, W) map and score."""
