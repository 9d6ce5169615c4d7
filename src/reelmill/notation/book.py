"""Tune books: many tunes in one text, ABC 2.1 section 2.2."""

from __future__ import annotations

from reelmill.notation.header import split_lines, starts_tune


def split_book(text: str) -> list[str]:
    """The raw tunes of a book, in order, each ending in one newline.

    A tune starts at a line with X: and ends before a blank line or the next X:. The file header and free text
    between tunes are left out.
    """
    tunes: list[list[str]] = []
    within = False
    for line in split_lines(text.removeprefix("\ufeff")):
        if starts_tune(line):
            tunes.append([line])
            within = True
        elif not line.strip():
            within = False
        elif within:
            tunes[-1].append(line)
    return ["\n".join(tune) + "\n" for tune in tunes]
