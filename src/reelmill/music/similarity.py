"""How near a tune comes to others: transposition-free intervals and lengths, compared as strings.

A melody is a text with one character a step: the interval to a note and the note's length. Keys, bar lines,
repeats and ornaments leave no trace. The nearest of many tunes is the one with the highest normalized indel
similarity (rapidfuzz), sought among those that share most runs of a few steps, the rarer the better: an
inverted index as a sparse matrix (scipy).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process
from scipy.sparse import csr_array

from reelmill.music.score import Score

GRAM = 5  # steps
CANDIDATES = 16  # tunes that are compared with a song
_BATCH = 256  # songs whose candidates are sought at once
_FIRST = 0x100  # code point
_WIDEST, _LONGEST = 24, 1023  # semitones, units of _TICKS
_TICKS = 15
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def melody_text(score: Score) -> str:
    """The melody of a tune, one character a step; empty with fewer than two notes."""
    pitches = np.array(score.pitches, dtype=np.int64)
    lengths = np.minimum(np.array(score.lengths, dtype=np.int64)[1:] // _TICKS, _LONGEST)
    steps = np.clip(np.diff(pitches), -_WIDEST, _WIDEST) + _WIDEST
    return (_FIRST + steps * (_LONGEST + 1) + lengths).astype("<u4").tobytes().decode("utf-32-le")


@dataclass(frozen=True)
class Nearest:
    """The nearest of the indexed tunes to each of some songs; arrays ``[songs]``.

    ``tune`` is its place (-1: none shares a run), ``similarity`` from 0 to 1, ``copied`` the notes of the
    longest run that stands, step for step, in one of the tunes compared.
    """

    tune: NDArray[np.int64]
    similarity: NDArray[np.float64]
    copied: NDArray[np.int64]


class Melodies:
    """An index of melodies (``melody_text``), a function of them and their order."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        grams, owners = _grams(self.texts)
        self._grams, columns = np.unique(grams, return_inverse=True)
        shape = (len(self._grams), len(self.texts))
        postings = csr_array((np.ones(len(columns), dtype=np.float32), (columns, owners)), shape=shape)
        postings.sum_duplicates()
        owned = np.diff(postings.indptr)
        rarity = np.log(max(2, len(self.texts)) / owned).astype(np.float32)
        postings.data = np.repeat(rarity, owned)
        self._postings = postings

    def nearest(self, songs: Sequence[str]) -> Nearest:
        """The nearest tune of each of ``songs``."""
        tune = np.full(len(songs), -1, dtype=np.int64)
        similarity = np.zeros(len(songs))
        copied = np.zeros(len(songs), dtype=np.int64)
        for start in range(0, len(songs), _BATCH):
            for place, candidates in enumerate(self._candidates(songs[start : start + _BATCH]), start):
                if len(candidates):
                    texts = [self.texts[candidate] for candidate in candidates]
                    scores = (
                        process.cdist([songs[place]], texts, scorer=fuzz.ratio, dtype=np.float64)[0] / 100
                    )
                    best = int(scores.argmax())
                    tune[place], similarity[place] = candidates[best], scores[best]
                    copied[place] = longest_run(songs[place], texts)
        return Nearest(tune, similarity, copied)

    def _candidates(self, songs: Sequence[str]) -> list[NDArray[np.int64]]:
        """For each song the tunes that share most with it, in order of their places."""
        grams, owners = _grams(songs)
        places = np.searchsorted(self._grams, grams)
        known = places < len(self._grams)
        known[known] = self._grams[places[known]] == grams[known]
        asked = csr_array(
            (np.ones(int(known.sum()), dtype=np.float32), (owners[known], places[known])),
            shape=(len(songs), len(self._grams)),
        )
        asked.sum_duplicates()
        asked.data[:] = 1
        shared = asked @ self._postings
        found = []
        for row in range(len(songs)):
            part = slice(shared.indptr[row], shared.indptr[row + 1])
            tunes, weights = shared.indices[part], shared.data[part]
            if len(tunes) > CANDIDATES:
                # Of equal weights the first tunes, so that the index alone decides.
                order = np.lexsort((tunes, -weights))[:CANDIDATES]
                tunes = tunes[order]
            found.append(np.sort(tunes).astype(np.int64))
        return found


def longest_run(song: str, tunes: Sequence[str]) -> int:
    """The notes of the longest run of ``song`` that stands in one of ``tunes``; 0 if not even a step does."""
    text = "\0".join(tunes)
    longest = 0
    for start in range(len(song)):
        while start + longest < len(song) and song[start : start + longest + 1] in text:
            longest += 1
    return longest + 1 if longest else 0


def _grams(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The runs of GRAM steps of all ``texts``, hashed, and whose they are."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    owners = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    if len(codes) < GRAM:
        return codes[:0], owners[:0]
    count = len(codes) - GRAM + 1
    hashed = np.zeros(count, dtype=np.uint64)
    for step in range(GRAM):
        hashed = (hashed ^ codes[step : step + count]) * _FACTOR
        hashed ^= hashed >> np.uint64(29)
    whole = owners[:count] == owners[GRAM - 1 :]
    return hashed[whole], owners[:count][whole]
