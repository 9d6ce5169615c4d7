"""Whether nodes see a directory, as far as this machine can tell.

A disk of this machine is refused, unless nodes are this machine or the cluster file says in ``shared_disks``
that they see it. A file system of neither list is let pass: parallel
file systems are many, and refusing one that is unknown here would lock its users out, while a node's own disk
is of one of a few well-known kinds. ``reelmill doctor`` asks a node and knows.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reelmill.cluster import queue

_LOCAL = {
    "tmpfs", "ramfs", "devtmpfs", "overlay", "squashfs", "ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs",
    "zfs", "f2fs", "jfs", "nilfs2", "reiserfs", "vfat", "exfat", "ntfs3", "fuseblk", "ecryptfs",
}  # fmt: skip
_SHARED = {
    "nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "fuse.ceph", "fuse.ceph-fuse", "fuse.glusterfs",
    "panfs", "wekafs", "pvfs2", "orangefs", "afs", "cifs", "smb3", "fuse.juicefs", "gfs2", "ocfs2", "dvs",
}  # fmt: skip
_OWN_PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run")


@dataclass(frozen=True)
class Disks:
    """What is mounted here (place, kind of file system), and the nodes' host names."""

    mounted: Sequence[tuple[str, str]]
    hosts: set[str]


def disks_here() -> Disks:
    """The disks of this machine, and Slurm's nodes."""
    return Disks(mounts(), queue.node_hosts())


def disk_problem(directory: Path, shared: Iterable[str], disks: Disks) -> str:
    """Why nodes do not see ``directory``, and what to do; empty if nothing speaks against it.

    ``shared`` are the directories that the cluster file says nodes see.
    """
    path = directory.resolve()
    place, kind = _mount(path, disks.mounted)
    listed = [Path(item).expanduser().resolve() for item in shared]
    if _nodes_are_here(disks.hosts) or kind in _SHARED or any(path.is_relative_to(item) for item in listed):
        return ""
    own = [item for item in _OWN_PLACES if path.is_relative_to(item)]
    if own:
        why = f"lies in {own[0]}, where each node has its own"
    elif kind in _LOCAL:
        why = f"lies on {kind} (mounted at {place}), a disk of this machine"
    else:
        return ""
    top = place if place != "/" else str(Path(*path.parts[:2]))
    return (
        f"{directory}: {why}; {_advice(listed, disks)}. If nodes see it all the same, have "
        f"`reelmill doctor --cluster FILE --place {directory}` prove it on a node, and set "
        f"`shared_disks: [{top}]` in the cluster file"
    )


def mounts() -> list[tuple[str, str]]:
    """(mount point, file system type) of what is mounted here; empty where the kernel does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [(_unescape(place), kind) for _, place, kind, *_ in (line.split() for line in lines)]


def _unescape(text: str) -> str:
    r"""A path as it is: \040 is a space, in mount tables."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)


def _nodes_are_here(hosts: set[str]) -> bool:
    here = socket.gethostname().split(".")[0]
    return bool(hosts) and all(host.split(".")[0] == here for host in hosts)


def _mount(path: Path, mounted: Sequence[tuple[str, str]]) -> tuple[str, str]:
    # Of several mounts at one place the last one covers the others.
    kinds = {place: kind for place, kind in mounted if path.is_relative_to(place)}
    place = max(kinds, key=len, default="/")
    return place, kinds.get(place, "")


def _advice(listed: Sequence[Path], disks: Disks) -> str:
    shared = [f"{place} ({kind})" for place, kind in disks.mounted if kind in _SHARED]
    shared += [f"{place} (in shared_disks)" for place in listed]
    if not shared:
        return "use a directory on a disk that the nodes share (none was found here)"
    return f"use a directory on a disk that the nodes share: {', '.join(shared)}"
