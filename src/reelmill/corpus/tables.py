"""Tunes in a column of a table: JSONL, JSON, Parquet or CSV files, or any data set ``load_dataset`` loads."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import datasets

from reelmill.errors import RequestError
from reelmill.notation.book import split_book

LOADERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
COLUMNS = ("text", "abc", "abc notation")
FEATURES = datasets.Features({"text": datasets.Value("string"), "source": datasets.Value("string")})


def load_table(path: Path, text_column: str, cache: str | None, num_proc: int) -> datasets.Dataset:
    """The raw tunes (columns text, source) of one table file; RequestError naming it if it is no table."""
    try:
        table = datasets.load_dataset(
            LOADERS[path.suffix.lower()],
            data_files=glob.escape(str(path)),
            split="train",
            cache_dir=cache,
        )
    except Exception as error:  # the loaders raise whatever pandas, pyarrow and fsspec raise
        raise RequestError(f"{path}: cannot be read as {path.suffix[1:]}: {_reason(error)}") from error
    return tunes_of(table, str(path), path.name, text_column, num_proc)


def load_data_set(
    name: str, text_column: str, cache: str | None, num_proc: int, revision: str | None = None
) -> datasets.Dataset:
    """The raw tunes of all splits of a hub data set, or of a folder laid out like one.

    The splits are joined, since tunes are split anew by duplicate cluster. Raises RequestError with the
    hub's or the loader's own reason.
    """
    processes = num_proc if num_proc > 1 else None
    try:
        splits = datasets.load_dataset(name, revision=revision, cache_dir=cache, num_proc=processes)
    except Exception as error:  # the hub's client and the loaders raise dozens of kinds
        reason = _reason(error) if Path(name).is_dir() else _first_line(str(error)) or type(error).__name__
        raise RequestError(f"{name}: cannot be loaded as a data set: {reason}") from error
    title = Path(name).name if Path(name).is_dir() else name
    return datasets.concatenate_datasets(
        [tunes_of(splits[split], name, f"{title}:{split}", text_column, num_proc) for split in sorted(splits)]
    )


def tunes_of(
    table: datasets.Dataset, name: str, label: str, text_column: str, num_proc: int
) -> datasets.Dataset:
    """The tunes in the text column of ``table``, ``label`` as their source. A row may hold a whole book."""
    column = find_column(table.features, name, text_column)
    return table.map(
        _split_rows,
        batched=True,
        fn_kwargs={"column": column, "label": label},
        remove_columns=table.column_names,
        features=FEATURES,
        num_proc=num_proc if num_proc > 1 and len(table) > 1 else None,
        desc="Reading tunes",
    )


def find_column(features: datasets.Features, name: str, text_column: str) -> str:
    """The column to read: ``text_column`` if given, else the first of COLUMNS that holds text."""
    text = [
        key for key, value in features.items() if getattr(value, "dtype", "") in ("string", "large_string")
    ]
    listed = ", ".join(repr(key) for key in features)
    if text_column:
        if text_column in text:
            return text_column
        problem = "does not hold text" if text_column in features else "is not there"
        raise RequestError(
            f"{name}: corpus.text_column = {text_column!r} {problem}; its columns are {listed}"
        )
    for column in COLUMNS:
        if column in text:
            return column
    raise RequestError(f"{name}: which column holds the ABC? set corpus.text_column to one of {listed}")


def _split_rows(batch: dict[str, list[Any]], column: str, label: str) -> dict[str, list[str]]:
    # A row without X: stays as it is, so that the canonical form can say and count what it lacks.
    texts = [tune for text in batch[column] for tune in (split_book(text or "") or [text or ""])]
    return {"text": texts, "source": [label] * len(texts)}


def _reason(error: BaseException) -> str:
    """The first line of the deepest cause that says anything; the outer layers only say that it failed."""
    deepest = str(error)
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
        deepest = str(error) or deepest
    return _first_line(deepest) or type(error).__name__


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]
