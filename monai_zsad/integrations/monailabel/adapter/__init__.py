"""The app for MONAI Label. Only these modules import MONAI Label."""
