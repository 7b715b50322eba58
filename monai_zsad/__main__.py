"""``python -m monai_zsad``: the command line."""

from monai_zsad.apps.cli import main

if __name__ == "__main__":
    main()
