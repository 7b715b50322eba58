"""pytest skips this folder if MONAI Deploy's SDK is not installed; it has its own environment."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("holoscan") else ["*.py"]
