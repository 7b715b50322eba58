"""Claims: each case of a run is taken by one of the processes that share the output folder."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monai_zsad.distributed.process_identity import ProcessIdentity, host_name, start_time
from monai_zsad.errors import OutputError
from monai_zsad.result_files import STATUS_FOLDER

__all__ = ["Claims"]

_BEAT_SECONDS = 15.0
_STALE_SECONDS = 300.0
_CLAIM = re.compile(r"(?P<case>.+)\.(?P<number>\d+)\.claim", re.DOTALL)


class Claims:
    """Exclusive claims on cases, as small files in ``<output_dir>/.status``.

    MONAI's ``partition_dataset`` gives every rank its share before the run: a slow rank keeps the others waiting, and
    the cases of a dead rank are lost. Here each process takes the next free case. A claim is a hard link to the
    process' own file, or a new file where the file system has no hard links. Only one process can make either, on
    local and on network file systems (NFS from version 3 on), and no lock server is needed.

    A process lives as long as its own file ``<token>.run`` exists and one of two conditions holds: its process id
    exists (on the same host), or the file was touched in the last five minutes (on other hosts; the file server gives
    the times, so the clocks of the hosts need not agree). The claims of a dead process are void. Another process then
    makes the claim with the next number, ``<case>.1.claim`` after ``<case>.0.claim``, which again only one can make.
    A process that is halted for minutes and then continues may therefore repeat a case of another process. The result
    is the same, as every file appears only when it is complete, and both processes write equal files.

    Args:
        output_dir: folder of the run; it exists.
        run: name of the run; a new one by default.
        settings: hash of the settings that decide the results.
        tidy: at the end, also remove the files of dead processes.
        beat_seconds: time between two signs of life of this process.
        stale_seconds: a process of another host counts as dead when it has been silent for so long.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with Claims(folder) as one, Claims(folder) as other:
        ...     one.take("anna"), other.take("anna"), other.take("ben"), one.release("anna"), other.take("anna")
        (0, None, 0, None, 0)
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        run: str = "",
        settings: str = "",
        tidy: bool = True,
        beat_seconds: float = _BEAT_SECONDS,
        stale_seconds: float = _STALE_SECONDS,
    ) -> None:
        self.folder = Path(output_dir).expanduser() / STATUS_FOLDER
        token = uuid.uuid4().hex
        pid = os.getpid()
        self.owner = ProcessIdentity(token, run or uuid.uuid4().hex, host_name(), pid, start_time(pid) or "", settings)
        self.tidy = tidy
        self.beat_seconds = beat_seconds
        self.stale_seconds = stale_seconds
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def file(self) -> Path:
        """This process' own file."""
        return self.folder / f"{self.owner.token}.run"

    def __enter__(self) -> Claims:
        """Show from now on that this process lives.

        Raises:
            OutputError: if the folder cannot be written to.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            temporary = self.file.with_suffix(".new")
            temporary.write_text(json.dumps(asdict(self.owner)) + "\n", encoding="utf-8")
            temporary.replace(self.file)
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        self._ended.clear()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Release all claims."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        # First, as every claim of this process is void without this file.
        self.file.unlink(missing_ok=True)
        self._sweep()

    def __getstate__(self) -> dict[str, Any]:
        # For spawned worker processes of a DataLoader, which take cases in the name of this process.
        return self.__dict__ | {"_thread": None, "_ended": None}

    def take(self, case: str, after_death: bool = True) -> int | None:
        """Claim a case.

        Args:
            case: its id.
            after_death: take the case also if a process has died while it ran the case.

        Returns:
            How many processes have died while they ran this case; None if a living process (perhaps this one) has it.

        Raises:
            OutputError: if the claim cannot be written.
        """
        number = 0
        while not self._create(claim := self._claim(case, number)):
            if not after_death or self._is_held(claim):
                return None
            # If the claim was released in between, its number is free again.
            number += claim.exists()
        return number

    def is_held(self, case: str) -> bool:
        """Whether a living process has claimed the case."""
        number = 0
        while (claim := self._claim(case, number)).exists():
            if self._is_held(claim):
                return True
            number += 1
        return False

    def deaths(self, case: str, run: str | None = None) -> int:
        """How many processes are known to have died while they ran this case; with ``run`` only those of that run."""
        number = count = 0
        while (claim := self._claim(case, number)).exists():
            owner = _read(claim)
            count += (run is None or (owner is not None and owner.run == run)) and not self._is_held(claim)
            number += 1
        return count

    def release(self, case: str) -> None:
        """Remove this process' claim on the case, and void claims with lower numbers."""
        numbers = []
        number = 0
        while (claim := self._claim(case, number)).exists():
            numbers.append(claim)
            number += 1
        if numbers and self._owns(numbers[-1]):
            # Highest number first: a lower number that is free would let another process claim the case.
            for claim in reversed(numbers):
                claim.unlink(missing_ok=True)

    def others(self) -> list[ProcessIdentity]:
        """Living processes of other runs that take cases in this folder."""
        return [one for one in self._known() if one.settings and one.run != self.owner.run and self._lives(one)]

    def void(self, host: str, pid: int) -> None:
        """Declare a process of this run dead, so that its claims are void."""
        for one in self._known():
            if (one.run, one.host, one.pid) == (self.owner.run, host, pid):
                (self.folder / f"{one.token}.run").unlink(missing_ok=True)

    def _known(self) -> list[ProcessIdentity]:
        found = map(_read, sorted(self.folder.glob("*.run")))
        return [one for one in found if one is not None]

    def _claim(self, case: str, number: int) -> Path:
        return self.folder / f"{case}.{number}.claim"

    def _create(self, claim: Path) -> bool:
        try:
            os.link(self.file, claim)
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise _cannot_write(claim, error) from error
        except OSError:
            return self._create_without_links(claim)
        return True

    def _create_without_links(self, claim: Path) -> bool:
        try:
            with claim.open("x", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(self.owner)) + "\n")
        except FileExistsError:
            return False
        except OSError as error:
            raise _cannot_write(claim, error) from error
        return True

    def _owns(self, claim: Path) -> bool:
        owner = _read(claim)
        return owner is not None and owner.token == self.owner.token

    def _is_held(self, claim: Path) -> bool:
        owner = _read(claim)
        if owner is None:
            # Removed, or just being written by another process (without links), or left incomplete by a crash.
            return self._age(claim) < self.stale_seconds
        return self._lives(owner)

    def _lives(self, owner: ProcessIdentity) -> bool:
        file = self.folder / f"{owner.token}.run"
        if owner.host == self.owner.host and file.exists():
            started = start_time(owner.pid)
            if started is None or (started and owner.since):
                return started == owner.since
        return self._age(file) < self.stale_seconds

    def _age(self, file: Path) -> float:
        """Seconds since a file was touched, by the clock of the file server; infinite if the file does not exist."""
        try:
            os.utime(self.file)
            return self.file.stat().st_mtime - file.stat().st_mtime
        except OSError:
            return float("inf")

    def _beat(self) -> None:
        while not self._ended.wait(self.beat_seconds):
            with contextlib.suppress(OSError):
                os.utime(self.file)

    def _sweep(self) -> None:
        """Remove this process' claims; with ``tidy`` also all claims on cases that no living process has."""
        found: dict[str, list[tuple[int, Path]]] = {}
        for claim in sorted(self.folder.glob("*.claim")):
            if match := _CLAIM.fullmatch(claim.name):
                found.setdefault(match["case"], []).append((int(match["number"]), claim))
        for numbered in found.values():
            claims = [claim for _, claim in sorted(numbered, reverse=True)]
            if self.tidy and not any(map(self._is_held, claims)):
                own = claims
            else:
                own = [claim for claim in claims[:1] if self._owns(claim)]
            for claim in own:
                claim.unlink(missing_ok=True)
        for file in self.folder.glob("*.run") if self.tidy else ():
            owner = _read(file)
            if owner is not None and not self._lives(owner):
                file.unlink(missing_ok=True)


def _read(file: Path) -> ProcessIdentity | None:
    try:
        return ProcessIdentity(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written ({error.strerror}); give another --output_dir")
