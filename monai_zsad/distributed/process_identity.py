"""The identity of a process: how other processes, also on other machines, tell it from all others and see it die."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ProcessIdentity", "host_name", "start_time"]


@dataclass(frozen=True)
class ProcessIdentity:
    """A process that claims cases.

    Attributes:
        token: random name of this process within the run.
        run: random name of the run, the same in all processes that were started together.
        host: machine, its last boot, and its name space of process ids; see :func:`host_name`.
        pid: process id on that host.
        since: start of the process in ticks, see :func:`start_time`; a later process with the same id has another.
        settings: hash of the settings that decide the results, so that two runs do not mix theirs; empty if the
            process only writes tables.
    """

    token: str
    run: str
    host: str
    pid: int
    since: str
    settings: str = ""


def host_name() -> str:
    """Name of the set of processes in which a process id is unique: machine, boot and name space of process ids.

    Example:
        >>> host_name() == host_name()
        True
    """
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def start_time(pid: int) -> str | None:
    """When a process of this host started, in clock ticks since the boot.

    Returns:
        The time as text; empty if the system does not tell it; None if there is no living process with this id.

    Example:
        >>> start_time(os.getpid()) == start_time(os.getpid())
        True
    """
    if os.name != "posix":
        # On Windows, os.kill ends the process, whatever the signal is.
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return ""
    try:
        # The second field, the program's name in parentheses, may contain spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return None if fields[0] in "ZX" else fields[19]
