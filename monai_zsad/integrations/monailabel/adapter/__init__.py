"""The app for MONAI Label: the only modules that import it."""
