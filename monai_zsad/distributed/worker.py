"""One of several workers of ``screen``: a bundle's run that takes its share of the cases.

As a program, it reads its order from stdin, a line of JSON, and ends when stdin does: with the process that leads it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from monai_zsad.distributed.ranks import CREW_VARIABLE

__all__ = ["work"]


def work(config_file: str, settings: Mapping[str, Any], run: str) -> None:
    """Run a bundle as a worker of a run; the leading process writes the tables.

    Args:
        config_file: the bundle's ``inference.yaml``.
        settings: values by id that replace those of the file.
        run: name of the run, see :class:`~monai_zsad.distributed.ranks.Place`.

    Raises:
        ZsadError: what the bundle refuses.
    """
    from monai.bundle import run as run_bundle

    from monai_zsad.data import find_user_error

    os.environ[CREW_VARIABLE] = run
    try:
        run_bundle(config_file=config_file, **settings)
    except RuntimeError as error:
        if found := find_user_error(error):
            raise found from error
        raise


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Do what stdin says."""
    from monai_zsad.errors import ZsadError

    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        work(order["config_file"], order["settings"], order["run"])
    except ZsadError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = 1
    else:
        code = 0
    sys.stdout.flush()
    # The thread that waits for stdin holds its lock, which an ordinary end of the interpreter would want.
    os._exit(code)


if __name__ == "__main__":
    main()
