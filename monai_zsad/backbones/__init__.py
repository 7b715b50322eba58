"""CLIP and the dense priors: architectures, weights, dense features."""
