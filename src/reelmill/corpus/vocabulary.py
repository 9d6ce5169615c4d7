"""Characters as numbers: index 0 starts a tune, index 1 ends it, the characters follow in code point order.

A vocabulary is all that must be known to read a model's numbers as text, so it is written beside every run
and every model as ``vocabulary.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from reelmill import durable
from reelmill.errors import DamagedError, RequestError

START = 0
END = 1
MARKS = ("<start>", "<end>")


class Vocabulary:
    """A one-to-one map between indices and characters; equal vocabularies give equal numbers.

    ``idx2char`` (list) and ``char2idx`` (dict) hold the characters and, at 0 and 1, the two marks. A mark's
    name is longer than one character, so no text can be encoded into a mark.
    """

    def __init__(self, characters: Sequence[str]) -> None:
        """``characters`` in the order of their indices; ValueError unless each is one character, once."""
        wrong = [character for character in characters if len(character) != 1]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not one character")
        if len(set(characters)) != len(characters):
            raise ValueError("a character stands twice")
        self.characters = tuple(characters)
        self.idx2char = [*MARKS, *characters]
        self.char2idx = {character: index for index, character in enumerate(self.idx2char)}
        points = np.array([ord(character) for character in characters], dtype=np.uint32)
        self._order = np.argsort(points)
        self._points = points[self._order]

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> Vocabulary:
        """The vocabulary of every character in ``texts``, in code point order."""
        seen: set[str] = set()
        for text in texts:
            seen.update(text)
        return cls(sorted(seen))

    @property
    def size(self) -> int:
        """Number of indices: the characters and the two marks."""
        return len(self.idx2char)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and other.characters == self.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def encode(self, text: str, unknown: Literal["drop", "error"] = "drop") -> npt.NDArray[np.int64]:
        """Indices of the characters of ``text`` (int64 ``[characters]``), without marks.

        Characters outside the vocabulary are left out, or raise ValueError with ``unknown="error"``.
        """
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        if self._points.size == 0:
            known = np.zeros(points.size, dtype=bool)
            places = np.zeros(points.size, dtype=np.int64)
        else:
            places = np.minimum(np.searchsorted(self._points, points), self._points.size - 1)
            known = self._points[places] == points
        if unknown == "error" and not known.all():
            character = chr(points[~known][0])
            raise ValueError(f"the character {character!r} is not in the vocabulary")
        return (self._order[places[known]] + len(MARKS)).astype(np.int64)

    def decode(self, indices: Iterable[int] | npt.NDArray[np.integer]) -> str:
        """The text of ``indices``; marks stand for no text. IndexError for any other index."""
        numbers = [int(index) for index in indices]
        if numbers and not 0 <= min(numbers) <= max(numbers) < self.size:
            raise IndexError(f"an index outside 0 … {self.size - 1}")
        return "".join(self.idx2char[number] for number in numbers if number >= len(MARKS))

    def to_json(self) -> dict[str, Any]:
        """``{"start": 0, "end": 1, "characters": [...]}``; the first character has index 2."""
        return {"start": START, "end": END, "characters": list(self.characters)}

    @classmethod
    def from_json(cls, value: Any) -> Vocabulary:
        """The inverse of ``to_json``; ValueError if ``value`` is anything else."""
        if not isinstance(value, dict) or value.get("start") != START or value.get("end") != END:
            raise ValueError(f'expected {{"start": {START}, "end": {END}, "characters": [...]}}')
        characters = value.get("characters")
        if not isinstance(characters, list) or not all(isinstance(item, str) for item in characters):
            raise ValueError('"characters" is not a list of characters')
        return cls(characters)

    def save(self, path: Path) -> None:
        """Write ``to_json`` to ``path``, atomically."""
        # ASCII escapes, because a corpus may hold characters that are not valid in UTF-8 text.
        durable.write_text(path, json.dumps(self.to_json()) + "\n")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """The vocabulary in ``path``; RequestError if there is none, DamagedError if it cannot be read."""
        if not path.is_file():
            raise RequestError(f"{path}: no such vocabulary file")
        try:
            return cls.from_json(durable.read_json(path))
        except ValueError as error:
            raise DamagedError(f"{path}: not a vocabulary ({error})") from None
