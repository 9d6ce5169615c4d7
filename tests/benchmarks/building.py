"""How long a corpus of the size people have takes to build: ``make bench-building``.

200,000 tunes unless another number is given, made up of those of both named corpora: in another key, with
bars in another order and half of them from another tune, so that few are near-copies. Says seconds, those of
processors (which others on the machine disturb less), tunes a second, and the memory of the largest process.
"""

from __future__ import annotations

import random
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from reelmill.corpus.build import build
from reelmill.corpus.settings import CorpusSettings
from reelmill.corpus.statistics import describe
from reelmill.notation.canonical import NotATune, canonical
from reelmill.notation.transposition import transpose
from tests.notation.ears import FIELDS, raw_tunes

_FIELD = re.compile(r"[A-Za-z]:")
_EVERYONE = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def made_up(count: int, rng: random.Random) -> Iterator[str]:
    """``count`` tunes that nobody has played."""
    real = []
    for _, _, raw in raw_tunes("irish", "traditional"):
        try:
            head, _, tail = canonical(raw, FIELDS).partition("\nK:")
        except NotATune:
            continue
        real.append((head, *_key_and_bars(tail)))
    made = 0
    while made < count:
        (head, key, own), (_, _, others) = rng.choice(real), rng.choice(real)
        bars = [rng.choice(others) if place % 2 else bar for place, bar in enumerate(own)]
        rng.shuffle(bars)
        try:
            yield transpose(f"{head}\nK:{key}\n{'|'.join(bars)}|\n", rng.randint(-5, 6))
        except NotATune:
            continue
        made += 1


def _key_and_bars(tail: str) -> tuple[str, list[str]]:
    """What follows a tune's K:, as its value and the bars behind it that have no fields."""
    key, _, body = tail.partition("\n")
    bars = [bar for bar in body.replace("\n", "|").split("|") if bar.strip(" :") and not _FIELD.search(bar)]
    return key, bars or ["z"]


def main(count: int) -> None:
    """Make a book of ``count`` tunes up and build its corpus, with the default settings."""
    with tempfile.TemporaryDirectory() as scratch:
        book = Path(scratch) / "book.abc"
        with book.open("w", encoding="utf-8") as file:
            file.writelines(tune + "\n" for tune in made_up(count, random.Random(0)))
        begin, before = time.perf_counter(), _processor_seconds()
        built = build(CorpusSettings(source=str(book), directory=str(Path(scratch) / "corpus")))
        seconds, busy = time.perf_counter() - begin, _processor_seconds() - before
    memory = max(resource.getrusage(who).ru_maxrss >> 10 for who in _EVERYONE)
    print(describe(built.statistics))
    print(
        f"{count:,} tunes in {seconds:.0f} s ({busy:.0f} s of processors), {count / seconds:.0f} a second; "
        f"{memory:,} MiB at most"
    )


def _processor_seconds() -> float:
    """Processor seconds of this process and of those it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in _EVERYONE)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
