"""Whether nodes see a directory, as far as the kind of its disk can tell from here.

What surely is this machine's own is refused. A disk of this machine may be exported to the nodes (head nodes
of small clusters do that), so it is only doubted. ``reelmill doctor`` asks a node.
"""

from __future__ import annotations

import functools
import logging
import re
import socket
from collections.abc import Sequence
from pathlib import Path

_log = logging.getLogger(__name__)

_IN_MEMORY = {"tmpfs", "ramfs", "devtmpfs", "overlay"}
_LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "vfat", "exfat", "ntfs3", "fuseblk"}
_SHARED = {
    "nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "fuse.ceph", "fuse.ceph-fuse", "fuse.glusterfs",
    "panfs", "wekafs", "pvfs2", "orangefs", "afs", "cifs", "smb3", "fuse.juicefs",
}  # fmt: skip
_OWN_PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run")
Mounts = Sequence[tuple[str, str]]


def disk_problems(directory: Path, hosts: set[str], mounted: Mounts) -> list[str]:
    """A line if ``directory`` surely is on a disk that only this machine sees; it names the shared disks.

    ``hosts`` are the nodes' host names, ``mounted`` pairs of mount point and file system type. Where all
    nodes are this machine nothing is wrong.
    """
    path = directory.resolve()
    kind = _kind(path, mounted)
    if _nodes_are_here(hosts) or kind in _SHARED:
        return []
    if kind in _IN_MEMORY:
        return [f"{directory}: lies on {kind}, which the nodes do not see; {_advice(mounted)}"]
    own = [place for place in _OWN_PLACES if path.is_relative_to(place)]
    if own:
        return [f"{directory}: lies in {own[0]}, where each node has its own; {_advice(mounted)}"]
    return []


def disk_doubt(directory: Path, hosts: set[str], mounted: Mounts) -> str:
    """Why nodes may not see ``directory``: it lies on a disk of this machine. Empty if there is no doubt."""
    kind = _kind(directory.resolve(), mounted)
    if _nodes_are_here(hosts) or kind not in _LOCAL:
        return ""
    return (
        f"{directory}: lies on {kind}, a disk of this machine. If it is not exported to the nodes, "
        f"{_advice(mounted)}; `reelmill doctor --cluster FILE --place {directory.parent}` asks a node"
    )


def warn_of_doubt(directory: Path, hosts: set[str], mounted: Mounts) -> None:
    """Say the doubt, once for each directory."""
    doubt = disk_doubt(directory, hosts, mounted)
    if doubt:
        _warn_once(doubt)


def mounts() -> list[tuple[str, str]]:
    """(mount point, file system type) of what is mounted here; empty where the kernel does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [
        (re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), place), kind)  # \040 is a space
        for _, place, kind, *_ in (line.split() for line in lines)
    ]


def _nodes_are_here(hosts: set[str]) -> bool:
    here = socket.gethostname().split(".")[0]
    return bool(hosts) and all(host.split(".")[0] == here for host in hosts)


def _kind(path: Path, mounted: Mounts) -> str:
    # Of several mounts at one place the last one covers the others.
    kinds = {place: kind for place, kind in mounted if path.is_relative_to(place)}
    return kinds[max(kinds, key=len)] if kinds else ""


def _advice(mounted: Mounts) -> str:
    shared = [f"{place} ({kind})" for place, kind in mounted if kind in _SHARED]
    if not shared:
        return "use a directory on the disk that the nodes share"
    return f"use a directory on a disk that they may share: {', '.join(shared)}"


@functools.cache
def _warn_once(warning: str) -> None:
    _log.warning(warning)
