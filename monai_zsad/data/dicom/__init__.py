"""DICOM series as scans: files, headers, slice positions, resampling, grouping into series."""
