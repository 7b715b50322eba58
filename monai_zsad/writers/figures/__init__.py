"""Figures of slices: scan, anomaly map and outlines of candidates, for previews, reports and comparisons."""
