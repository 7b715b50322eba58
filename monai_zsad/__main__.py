"""``python -m monai_zsad``: the command line."""

from monai_zsad.cli.main import main

if __name__ == "__main__":
    main()
