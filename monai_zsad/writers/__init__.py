"""Writing what was found."""
