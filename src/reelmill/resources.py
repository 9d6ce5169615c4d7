"""What of the machine is this process's to use: processors and memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil


def processors() -> int:
    """Number of processors this process may use: REELMILL_PROCESSORS, if several share the machine."""
    share = os.environ.get("REELMILL_PROCESSORS", "")
    if share.isdecimal():
        return max(1, int(share))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory(root: Path = Path("/")) -> int:
    """Bytes that can still be taken: what the machine has available, or less where a control group (of a
    container, of a job) allows less, or REELMILL_MEMORY, if several share the machine.

    Of a control group's use, the page cache that lies idle does not count: the kernel takes it back.
    """
    bounds = [psutil.virtual_memory().available, *_of_groups(root)]
    share = os.environ.get("REELMILL_MEMORY", "")
    if share.isdecimal():
        bounds.append(int(share))
    return max(0, min(bounds))


def _of_groups(root: Path) -> Iterator[int]:
    """What each control group of this process leaves, in version 1 and 2 of their files."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            names = ("memory.max", "memory.current", "inactive_file")
            top = root / "sys/fs/cgroup"
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            top = root / "sys/fs/cgroup/memory"
        else:
            continue
        group = top / path.lstrip("/")
        while group.is_relative_to(top):
            yield from _of_group(group, *names)
            group = group.parent


def _of_group(group: Path, limit: str, use: str, idle: str) -> Iterator[int]:
    bound, used = (next(iter(_lines(group / name)), "max") for name in (limit, use))
    if bound.isdecimal() and used.isdecimal():
        reclaimable = (
            line.split()[1] for line in _lines(group / "memory.stat") if line.startswith(f"{idle} ")
        )
        yield int(bound) - int(used) + int(next(reclaimable, 0))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
