"""ABC to engraved notation, by Verovio in a process of its own with limits: sampled text can crash it."""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from reelmill.anonymous import anonymous_file, contents
from reelmill.audio.process import Limits, run

_PROGRAM = Path(__file__).with_name("engrave.py")
_DECORATION = re.compile(r"(![A-Za-z0-9<>().+]+!)|!")
_MARK = "✗"
_LIMITS = Limits(seconds=30, cpu_seconds=10, memory=2 << 30, file_size=4 << 20)


@dataclass(frozen=True)
class Engraving:
    """``svg``: a standalone image, "" if it could not be made; ``problem`` then says why."""

    svg: str
    problem: str = ""


def engrave(abc: str, wrong: int | None = None) -> Engraving:
    """The notation of a tune, with a mark above the note at ``wrong``; the same SVG for the same text."""
    if wrong is not None:
        abc = f'{abc[:wrong]}"^{_MARK}"{abc[wrong:]}'
    abc = _DECORATION.sub(lambda match: match[1] or "", abc)  # "!" alone, a line break in old ABC, aborts it
    seed = int.from_bytes(hashlib.sha256(abc.encode()).digest()[:3])
    with anonymous_file(abc.encode()) as source, anonymous_file() as image:
        ending = run([sys.executable, "-P", str(_PROGRAM), str(seed)], _LIMITS, [source, image])
        svg = contents(image).decode(errors="replace")
    if ending.code == 0 and svg.endswith("</svg>\n"):
        return Engraving(svg.replace(f">{_MARK}<", f' fill="#b4531f" font-weight="bold">{_MARK}<'))
    if ending.code == 1:
        return Engraving("", "the engraver could not read this tune")
    return Engraving("", f"the engraver did not survive this tune ({ending.words})")
