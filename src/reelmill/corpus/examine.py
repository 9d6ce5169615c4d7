"""What is known of each tune by looking at it alone: the part of a build that is spread over processes."""

from __future__ import annotations

from functools import partial
from typing import Any

import datasets
import numpy as np

from reelmill.corpus.duplicates import BANDS, MELODY_SHINGLE, SHINGLE, band_keys
from reelmill.corpus.settings import CorpusSettings
from reelmill.corpus.split import identity
from reelmill.music.form import form_problem
from reelmill.notation.bars import bars_problem
from reelmill.notation.canonical import NotATune, canonical
from reelmill.notation.header import header
from reelmill.notation.intervals import interval_text
from reelmill.notation.validity import headers_problem

_SHORTEST_MELODY = 16  # steps; shorter ones are alike by chance

FEATURES = datasets.Features(
    {
        "text": datasets.Value("string"),  # canonical; empty if dropped
        "source": datasets.Value("string"),
        "reason": datasets.Value("string"),  # why it is dropped; empty if it is not
        "whole": datasets.Value("int64"),  # identity of the canonical text
        "identity": datasets.Value("int64"),  # identity of the body
        "body": datasets.Value("string"),  # without white space
        "intervals": datasets.Value("string"),
        "body_bands": datasets.List(datasets.Value("int64"), length=BANDS),
        "intervals_bands": datasets.List(datasets.Value("int64"), length=BANDS),
        "headers": datasets.Value("bool"),
        "bars": datasets.Value("bool"),
        "form": datasets.Value("bool"),
        "meter": datasets.Value("string"),
        "key": datasets.Value("string"),
        "rhythm": datasets.Value("string"),
    }
)


def examine(raw: datasets.Dataset, settings: CorpusSettings) -> datasets.Dataset:
    """One row of FEATURES for each raw tune (columns text, source), in the same order."""
    processes = settings.processes(len(raw))
    return raw.map(
        partial(_examine_batch, fields=tuple(settings.fields), max_length=settings.max_tune_length),
        batched=True,
        batch_size=500,
        remove_columns=raw.column_names,
        features=FEATURES,
        num_proc=processes if processes > 1 and len(raw) > 1 else None,
        desc="Examining tunes",
    )


def body_of(abc: str) -> str:
    """What stands after the header (which ``K:`` ends), without white space: what similarity is about."""
    lines = abc.split("\n")
    header_end = next((number for number, line in enumerate(lines, 1) if line.startswith("K:")), 0)
    return "".join("".join(lines[header_end:]).split())


def _examine_batch(
    batch: dict[str, list[str]], fields: tuple[str, ...], max_length: int
) -> dict[str, list[Any]]:
    rows = [_examine_tune(text, fields, max_length) for text in batch["text"]]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    return {**columns, "source": batch["source"]}


def _examine_tune(raw: str, fields: tuple[str, ...], max_length: int) -> dict[str, Any]:
    text, reason = "", ""
    try:
        text = canonical(raw, fields)
    except NotATune as error:
        reason = error.reason
    if len(text) > max_length:
        text, reason = "", f"longer than {max_length} characters"
    body = body_of(text)
    intervals = _intervals(text) if text else ""
    head = header(text) if text else {}
    return {
        "text": text,
        "reason": reason,
        "whole": identity(text),
        "identity": identity(body),
        "body": body,
        "intervals": intervals,
        "body_bands": _bands(body, SHINGLE),
        "intervals_bands": _bands(intervals, MELODY_SHINGLE),
        "headers": bool(text) and not headers_problem(text),
        "bars": bool(text) and not bars_problem(text),
        "form": bool(text) and not form_problem(text),
        "meter": head.get("M", ""),
        "key": head.get("K", ""),
        "rhythm": head.get("R", ""),
    }


def _intervals(text: str) -> str:
    try:
        intervals = interval_text(text)
    except NotATune:
        return ""
    return intervals if len(intervals) >= _SHORTEST_MELODY else ""


def _bands(text: str, shingle: int) -> np.ndarray:
    return band_keys(text, shingle) if text else np.zeros(BANDS, dtype=np.int64)
