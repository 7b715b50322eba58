"""Other programs: MONAI Label, MONAI Deploy and 3D Slicer."""
