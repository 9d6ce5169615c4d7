"""Finished attempts as they come from the engine: many at once, as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reelmill.corpus.vocabulary import MARKS, Vocabulary


@dataclass(frozen=True)
class Sampled:
    """What one attempt became; ``text`` includes the prompt, ``ended`` is False if max_length cut it."""

    song: int
    attempt: int
    text: str
    ended: bool


@dataclass(frozen=True)
class Block:
    """Finished attempts, an entry each in every array."""

    songs: NDArray[np.int64]
    attempts: NDArray[np.int64]  # which try at its song it is
    lengths: NDArray[np.int64]  # characters, those of the prompt included
    ended: NDArray[np.bool_]  # False if max_length cut it
    characters: NDArray[np.uint8 | np.int32]  # [attempts, at least the longest's]; nothing behind a length

    def __len__(self) -> int:
        return len(self.songs)

    def texts(self, points: NDArray[np.uint32]) -> list[str]:
        """The attempts' texts, by the ``code_points`` of their vocabulary."""
        width = self.characters.shape[1]
        whole = points[self.characters].tobytes().decode("utf-32-le", "surrogatepass")
        lengths = self.lengths.tolist()
        return [whole[line * width : line * width + length] for line, length in enumerate(lengths)]

    def pieces(self, size: int) -> Iterator[Block]:
        """The same attempts, at most ``size`` a block."""
        for start in range(0, len(self), size):
            some = slice(start, start + size)
            yield Block(
                self.songs[some],
                self.attempts[some],
                self.lengths[some],
                self.ended[some],
                self.characters[some],
            )

    def sampled(self, vocabulary: Vocabulary) -> list[Sampled]:
        """The attempts one by one."""
        texts = self.texts(code_points(vocabulary))
        columns = (self.songs.tolist(), self.attempts.tolist(), texts, self.ended.tolist())
        return [Sampled(*one) for one in zip(*columns, strict=True)]


def code_points(vocabulary: Vocabulary) -> NDArray[np.uint32]:
    """The code point of each index; marks, which stand in no text, have that of no character."""
    points = [0] * len(MARKS) + [ord(character) for character in vocabulary.characters]
    return np.array(points, dtype=np.dtype(np.uint32).newbyteorder("<"))
