"""What this machine lets others mount over NFS, for writing: head nodes of small clusters share a disk so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_ETAB = Path("/var/lib/nfs/etab")
_EXPORTS = Path("/etc/exports")


@dataclass(frozen=True)
class Export:
    """A directory that others may mount; ``crosses``: with the disks that are mounted below it."""

    place: Path
    crosses: bool


def exports(etab: Path = _ETAB, table: Path = _EXPORTS) -> list[Export]:
    """What is exported for writing, read without root; empty where no file says anything.

    ``etab`` is what the server exports now. Where it cannot be read, ``table`` and TABLE.d/*.exports say what
    it would export (exports(5)).
    """
    text = _read(etab)
    if text is None:
        parts = [table, *sorted(table.with_name(f"{table.name}.d").glob("*.exports"))]
        text = "\n".join(_read(part) or "" for part in parts)
    return parse_exports(text)


def parse_exports(text: str) -> list[Export]:
    """The directories in text of exports(5) that some client may write to."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        place, _, clients = line.partition("#")[0].strip().replace("\t", " ").partition(" ")
        if line.lstrip().startswith('"'):
            place, _, clients = line.strip()[1:].partition('"')
        # Options of all clients together: one that may write is enough. Without options it is `ro`.
        lists = re.findall(r"\(([^)]*)\)|(?:^|\s)-(\S+)", clients)
        options = {option.strip() for pair in lists for option in ",".join(pair).split(",")}
        if place.startswith("/") and "rw" in options:
            real = Path(unescape(place)).resolve()
            found.append(Export(real, bool(options & {"crossmnt", "nohide"})))
    return found


def unescape(text: str) -> str:
    r"""A path as it is: \040 is a space, in mount and export tables."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
