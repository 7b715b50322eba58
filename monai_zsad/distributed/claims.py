"""Claims: of several processes that share an output folder, which one runs which case."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monai_zsad.errors import OutputError
from monai_zsad.writers.status import STATUS_FOLDER

__all__ = ["Claims", "Owner"]

_BEAT_SECONDS = 15.0
_STALE_SECONDS = 300.0
_CLAIM = re.compile(r"(?P<case>.+)\.(?P<number>\d+)\.claim", re.DOTALL)


@dataclass(frozen=True)
class Owner:
    """A process that claims cases.

    Attributes:
        token: random name of this process' share of the run.
        run: random name of the run, the same in all processes that were started together.
        host: machine, since its start, and name space of process ids.
        pid: process id there.
        since: when that process started, in the machine's ticks; tells it from a later one with the same id.
        settings: hash of what decides the results, so that no two runs mix theirs; empty if it only writes tables.
    """

    token: str
    run: str
    host: str
    pid: int
    since: str
    settings: str = ""


class Claims:
    """Exclusive claims on cases, as small files in ``<output_dir>/.status``.

    MONAI's ``partition_dataset`` gives every rank its share beforehand: a slow one keeps the others waiting, and what a
    dead one leaves is lost. Here each process takes the next case that nobody has. A claim is made by a hard link, or
    where the file system has none by exclusive creation; both are atomic on local and network file systems (NFS from
    version 3 on), and no lock server is needed.

    A process is alive as long as its own file ``<token>.run`` is there and either its process id exists (seen from the
    same machine) or the file was touched in the last five minutes (seen from others; the times are the file server's,
    clocks need not agree). The claims of a process that is not are void: another process makes the claim of the next
    number, ``<case>.1.claim`` after ``<case>.0.claim``, which is exclusive again. So a case may be run twice, when a
    process is halted for minutes and then goes on; as files are written whole and equal runs write equal files, the
    result is the same.

    Args:
        output_dir: folder of the run; it exists.
        run: name of the run; a new one by default.
        settings: hash of what decides the results.
        tidy: remove what dead processes left, too, at the end.
        beat_seconds: how often this process shows that it lives.
        stale_seconds: how long another machine's process may be silent.

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
        self.owner = Owner(token, run or uuid.uuid4().hex, _host(), pid, _started(pid) or "", settings)
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
        """Show that this process lives, from now on.

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
        """Give up all claims."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        # First of all: without it, whatever claim is left is void.
        self.file.unlink(missing_ok=True)
        self._sweep()

    def __getstate__(self) -> dict[str, Any]:
        # For worker processes of a DataLoader that are not forked: they take cases in this process' name.
        return self.__dict__ | {"_thread": None, "_ended": None}

    def take(self, case: str, after_death: bool = True) -> int | None:
        """Claim a case.

        Args:
            case: its id.
            after_death: also one with which a process has died.

        Returns:
            How many processes have died with this case in hand; None if a living one, perhaps this, has it.

        Raises:
            OutputError: if the claim cannot be written.
        """
        number = 0
        while not self._create(claim := self._claim(case, number)):
            if not after_death or self._is_held(claim):
                return None
            # One that was released in between is claimed at the same number.
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
        """How many processes (only those of one run) have died with this case in hand, as far as known."""
        number = count = 0
        while (claim := self._claim(case, number)).exists():
            owner = _read(claim)
            count += (run is None or (owner is not None and owner.run == run)) and not self._is_held(claim)
            number += 1
        return count

    def release(self, case: str) -> None:
        """Give up this process' claim, and void ones below it."""
        numbers = []
        number = 0
        while (claim := self._claim(case, number)).exists():
            numbers.append(claim)
            number += 1
        if numbers and self._owns(numbers[-1]):
            # From above, so that no gap invites another to claim below a claim that is held.
            for claim in reversed(numbers):
                claim.unlink(missing_ok=True)

    def others(self) -> list[Owner]:
        """Living processes of other runs that take cases in this folder."""
        return [one for one in self._known() if one.settings and one.run != self.owner.run and self._lives(one)]

    def void(self, host: str, pid: int) -> None:
        """Declare a process of this run dead, its claims void."""
        for one in self._known():
            if (one.run, one.host, one.pid) == (self.owner.run, host, pid):
                (self.folder / f"{one.token}.run").unlink(missing_ok=True)

    def _known(self) -> list[Owner]:
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
            # Gone, or just being written by another process (without links), or cut off by a crash.
            return self._age(claim) < self.stale_seconds
        return self._lives(owner)

    def _lives(self, owner: Owner) -> bool:
        file = self.folder / f"{owner.token}.run"
        if owner.host == self.owner.host and file.exists():
            started = _started(owner.pid)
            if started is None or (started and owner.since):
                return started == owner.since
        return self._age(file) < self.stale_seconds

    def _age(self, file: Path) -> float:
        """Seconds since a file was touched, by the file server's clock; infinite if there is no such file."""
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
        """Remove this process' claims, and with ``tidy`` those of which all numbers are void."""
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


def _read(file: Path) -> Owner | None:
    try:
        return Owner(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _host() -> str:
    """A name for the set of processes among which an id means one process."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(pid: int) -> str | None:
    """When a process started, in ticks since the machine did; empty if that is not told, None if there is none."""
    if os.name != "posix":
        # There, signal 0 is no question.
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return ""
    try:
        # The name, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return None if fields[0] in "ZX" else fields[19]


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written ({error.strerror}); give another --output_dir")
