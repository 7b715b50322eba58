"""Several methods on one scan, side by side."""
