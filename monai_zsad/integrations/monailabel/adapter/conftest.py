"""Without MONAI Label, which has an environment of its own, there is nothing here that a test run can import."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("monailabel") else ["*.py"]
