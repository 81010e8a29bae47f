"""What a server uses: processor time and memory of its processes, from Linux's ``/proc``.

Elsewhere nothing is known, and the columns stay empty.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


def cpu_seconds(pids: Iterable[int]) -> float | None:
    """Processor time, in user and kernel mode, of these processes and of all their descendants."""
    total = 0.0
    parents = _parents()
    if not parents:
        return None
    roots = set(pids)
    for pid in parents:
        if _lineage(pid, parents) & roots:
            total += _own_seconds(pid, with_ended_children=pid in roots)
    return total


def machine_seconds() -> float | None:
    """Processor time that all processes of the machine have taken, and the hypervisor from them."""
    with contextlib.suppress(OSError, ValueError):
        first = (_PROC / "stat").read_text().partition("\n")[0].split()[1:]
        user, nice, system, _, _, irq, softirq, steal = (int(field) for field in first[:8])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return None


def queued_seconds() -> float | None:
    """How long the calling thread has been ready to run and had no core; see
    ``Documentation/scheduler/sched-stats.rst`` of Linux.
    """
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int((_PROC / "thread-self" / "schedstat").read_text().split()[1]) / 1e9
    return None


def peak_megabytes(pid: int) -> float | None:
    """The most physical memory that the process has held since it started."""
    return _status_megabytes(pid, "VmHWM:")


def megabytes(pid: int) -> float | None:
    """The physical memory that the process holds."""
    return _status_megabytes(pid, "VmRSS:")


def _status_megabytes(pid: int, name: str) -> float | None:
    with contextlib.suppress(OSError):
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) / 1024
    return None


def postmaster_of(backend: int) -> int | None:
    """The process that started this Postgres backend, where it runs on this machine."""
    with contextlib.suppress(OSError, ValueError):
        if (_PROC / str(backend) / "comm").read_text().strip() == "postgres":
            return int(_stat(backend)[1])
    return None


def _parents() -> dict[int, int]:
    found: dict[int, int] = {}
    for entry in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            found[int(entry.name)] = int(_stat(int(entry.name))[1])
    return found


def _lineage(pid: int, parents: dict[int, int]) -> set[int]:
    found: set[int] = set()
    while pid > 1 and pid not in found:
        found.add(pid)
        pid = parents.get(pid, 0)
    return found


def _own_seconds(pid: int, *, with_ended_children: bool) -> float:
    with contextlib.suppress(OSError, IndexError, ValueError):
        fields = _stat(pid)
        # utime, stime, and with them cutime and cstime: those of children that have ended
        ticks = sum(int(field) for field in fields[11 : 15 if with_ended_children else 13])
        return ticks / os.sysconf("SC_CLK_TCK")
    return 0.0


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` behind the name, from the state on (proc(5))."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
