"""Every real tune plays the same notes before and after canonical form: both named corpora, and Essen.

``make notes`` runs it: some 13,500 tunes, each played twice by abc2midi. It says which tunes differ and are
not listed in ``ears.EXCEPTIONS``, which are listed and do not, and how many canonical tunes pass each tier.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from reelmill.audio.midi import abc_to_midi, midi_problem
from reelmill.corpus import named
from reelmill.notation.bars import bars_problem
from reelmill.notation.canonical import NotATune, canonical
from reelmill.notation.validity import headers_problem
from tests.notation.ears import ESSEN, FIELDS, excepted, hear, raw_tunes


def compare(raw: str) -> tuple[str, bool, tuple[bool, bool, bool]]:
    """(why it is refused, whether it sounds the same, whether headers, midi and bars pass) of one tune."""
    try:
        tune = canonical(raw, FIELDS)
    except NotATune as error:
        return error.reason, True, (False, False, False)
    passed = (not headers_problem(tune), not midi_problem(abc_to_midi(tune)), not bars_problem(tune))
    return "", hear(raw) == hear(tune), passed


def main() -> int:
    """Compare all; 1 if a tune differs that is not listed, or one that is listed does not."""
    named.NAMES["essen"] = ESSEN
    tunes = raw_tunes("irish", "traditional", "essen")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        compared = list(pool.map(compare, (tune for _, _, tune in tunes), chunksize=50))
    differ = {tunes[at][:2] for at, (_, same, _) in enumerate(compared) if not same}
    for title, unexpected in (("differ", differ - excepted()), ("no longer differ", excepted() - differ)):
        for book, place in sorted(unexpected):
            print(f"{title}: {book} {place}")
    for book in dict.fromkeys(book for book, _, _ in tunes):
        rows = [result for (name, _, _), result in zip(tunes, compared, strict=True) if name == book]
        refused = Counter(reason for reason, _, _ in rows if reason)
        kept = [passed for reason, _, passed in rows if not reason]
        rates = ", ".join(
            f"{tier} {sum(passed[at] for passed in kept) / len(kept):.2%}"
            for at, tier in enumerate(("headers", "midi", "bars"))
        )
        print(f"{book}: {len(rows)} tunes, {rates}; refused: {dict(refused)}")
    print(f"{len(tunes)} tunes, {len(differ)} sound otherwise, {len(excepted())} of them listed with reasons")
    return int(differ != excepted())


if __name__ == "__main__":
    sys.exit(main())
