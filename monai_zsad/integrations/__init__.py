"""Other programs: MONAI Label and 3D Slicer."""
