"""Runs over a few tiny cases that may be killed: ``python -m tests.writers.interrupted SCANS`` serves commands.

The process that imported everything stays; each run is a fork of it, so that killing one costs no second import. One
JSON list per line of stdin: ``["start", folder, most bytes of a file or null]`` answers the run's process id,
``["wait"]`` its wait status and what it said. A run that was killed stays a zombie until then, so that its id names no
other process.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_zsad.errors import OutputError
from monai_zsad.writers import SaveCased, SaveManifestd, clean_temporaries, fingerprint, is_complete

CASES = [f"case{i:02}" for i in range(12)]
MODEL = {"method": "noise"}
SETTINGS = {"threshold": 0.5}


def run(folder: Path, scans: Path) -> None:
    """What a run over studies does: clean up, then each case that is not complete."""
    clean_temporaries(folder)
    savers: list[MapTransform] = [
        SaveCased(keys="pred", output_dir=folder),
        SaveCased(keys="pred_labels", output_dir=folder, output_postfix="candidates", output_dtype="uint8"),
        SaveManifestd(keys="pred", output_dir=folder, meta=MODEL, settings=SETTINGS),
    ]
    for seed, case in enumerate(CASES):
        source = str(scans / case)
        if is_complete(folder, case, fingerprint(MODEL, SETTINGS, source)):
            continue
        values = torch.rand((1, 32, 32, 16), generator=torch.Generator().manual_seed(seed))
        pred = MetaTensor(values, affine=torch.eye(4), meta={"source_files": source})
        data: dict[Any, Any] = {"case": case, "pred": pred, "pred_labels": (pred > 0.5).to(torch.uint8)}
        for save in savers:
            data = save(data)


def start(scans: Path, folder: str, most_bytes: int | None) -> tuple[int, int]:
    """Process id of a run, and where it says what went wrong."""
    reading, writing = os.pipe()
    if pid := os.fork():
        os.close(writing)
        return pid, reading
    status, said = 0, ""
    try:
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        run(Path(folder), scans)
    except OutputError as error:
        status, said = 1, str(error)
    except BaseException:  # noqa: BLE001 - the test shows it
        status, said = 2, traceback.format_exc()
    os.write(writing, said.encode())
    os._exit(status)


def main() -> None:
    """Serve until stdin ends."""
    torch.set_num_threads(1)
    scans = Path(sys.argv[1])
    print(json.dumps("ready"), flush=True)
    pid, pipe = 0, 0
    for line in sys.stdin:
        command, *rest = json.loads(line)
        if command == "start":
            pid, pipe = start(scans, *rest)
            answer: Any = pid
        else:
            with os.fdopen(pipe) as stream:
                said = stream.read()
            answer = [os.waitpid(pid, 0)[1], said]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
