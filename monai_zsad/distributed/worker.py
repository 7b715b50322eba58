"""One of several workers of ``screen``: it runs the bundle on its share of the cases.

As a program it reads its job, one line of JSON, from stdin. It ends when stdin is closed: when its launcher ends.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from monai_zsad.distributed.ranks import RUN_VARIABLE

__all__ = ["work"]


def work(config_file: str, settings: Mapping[str, Any], run: str) -> None:
    """Run a bundle as a worker of a run; the launcher writes the tables.

    Args:
        config_file: the bundle's ``inference.yaml``.
        settings: values by id that replace those of the file.
        run: name of the run, see :class:`~monai_zsad.distributed.ranks.Rank`.

    Raises:
        ZsadError: a user error that the bundle raised.
    """
    from monai.bundle import run as run_bundle

    from monai_zsad.data import find_user_error

    os.environ[RUN_VARIABLE] = run
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
    """Do the job that stdin gives."""
    from monai_zsad.errors import ZsadError

    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        work(job["config_file"], job["settings"], job["run"])
    except ZsadError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = 1
    else:
        code = 0
    sys.stdout.flush()
    # The thread that reads stdin holds its lock, and an ordinary end of the interpreter would wait for this lock.
    os._exit(code)


if __name__ == "__main__":
    main()
