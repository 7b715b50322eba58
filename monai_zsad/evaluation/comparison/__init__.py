"""Comparison of several methods on one scan."""
