"""Finding and reading scans."""
