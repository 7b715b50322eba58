"""MONAI transforms for screening: windows, orientation, foreground, volume score."""
