"""Training tunes as numbers in a memory-mapped file, so that a corpus may be larger than memory.

Each text stands between its start and end mark; a tune's transposed copies stand behind it. The file lies
beside the corpus, named for what went into it, and is made once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelmill import durable
from reelmill.corpus.vocabulary import END, START, Vocabulary
from reelmill.errors import DamagedError

TRANSPOSITIONS = tuple(semitones for semitones in range(-5, 7) if semitones != 0)

_CHARACTERS = "characters.bin"
_INDEX = "index.npz"


@dataclass(frozen=True)
class EncodedTunes:
    """Texts in one row of numbers.

    ``characters``: [total], every text with its marks. ``bounds``: int64 [texts + 1], where each begins.
    ``tunes``: int64 [tunes + 1], the first text of each tune; it has more if there are transposed copies.
    ``sha256``: of all of it.
    """

    characters: npt.NDArray[np.integer]
    bounds: npt.NDArray[np.int64]
    tunes: npt.NDArray[np.int64]
    sha256: str

    def __len__(self) -> int:
        """Number of tunes."""
        return len(self.tunes) - 1


def encode_tunes(texts: Iterable[list[str]], vocabulary: Vocabulary, directory: Path) -> None:
    """Write ``directory`` (which must not exist); ``texts`` gives each tune and its copies."""
    lengths: list[int] = []
    counts: list[int] = []
    dtype = np.min_scalar_type(vocabulary.size - 1)
    with durable.creating_directory(directory) as partial:
        with (partial / _CHARACTERS).open("wb") as file:
            for copies in texts:
                counts.append(len(copies))
                for text in copies:
                    marked = np.concatenate([[START], vocabulary.encode(text), [END]]).astype(dtype)
                    file.write(marked.tobytes())
                    lengths.append(len(marked))
        with (partial / _INDEX).open("wb") as file:
            np.savez(file, bounds=_sums(lengths), tunes=_sums(counts), dtype=np.array(dtype.str))


def open_encoded(directory: Path) -> EncodedTunes:
    """What ``encode_tunes`` wrote, memory-mapped. DamagedError if it is not all there."""
    manifest = durable.read_json(directory / durable.MANIFEST)
    try:
        digests = sorted((name, entry["sha256"]) for name, entry in manifest["files"].items())
        with np.load(directory / _INDEX, allow_pickle=False) as index:
            bounds, tunes, dtype = index["bounds"], index["tunes"], np.dtype(str(index["dtype"]))
        characters = np.memmap(directory / _CHARACTERS, dtype=dtype, mode="r")
        if len(characters) != bounds[-1] or len(bounds) - 1 != tunes[-1]:
            raise ValueError(f"{len(characters)} characters, the index says {bounds[-1]}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{directory}: not readable ({error}); remove it and it is made again") from None
    return EncodedTunes(characters, bounds, tunes, hashlib.sha256(json.dumps(digests).encode()).hexdigest())


def transposed_copies(tunes: Any, cache: Path, processes: int) -> Any:
    """A data set with the column ``copies``: each text of ``tunes``, followed by itself in other keys.

    Keys that a tune cannot be brought to are left out. ``cache`` is the file that holds the result.
    """
    return tunes.map(
        _with_copies,
        batched=True,
        batch_size=100,
        remove_columns=tunes.column_names,
        num_proc=processes if processes > 1 and len(tunes) > 1 else None,
        cache_file_name=str(cache),
        desc="Transposing tunes",
    )


def _with_copies(batch: dict[str, list[str]]) -> dict[str, list[list[str]]]:
    return {"copies": [[text, *_transposed(text)] for text in batch["text"]]}


def _transposed(text: str) -> Iterator[str]:
    from reelmill.notation.canonical import NotATune
    from reelmill.notation.transposition import transpose

    for semitones in TRANSPOSITIONS:
        try:
            yield transpose(text, semitones)
        except NotATune:
            continue


def _sums(lengths: list[int]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.array(lengths, dtype=np.int64))]).astype(np.int64)
