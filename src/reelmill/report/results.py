"""The results table, with the columns and words of the 6.S191 lab: fast or slow, bright or warm."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.audio.features import labels

COLUMNS = (
    "song",
    "title",
    "key",
    "meter",
    "duration_seconds",
    "tempo_bpm",
    "tempo",
    "spectral_centroid_hz",
    "timbre",
    "loudness_dbfs",
)
Row = dict[str, Any]


def result(facts: Mapping[str, Any]) -> Row:
    """The row of a song, from its ID.json. Without audio, the duration is the MIDI's and the rest is ""."""
    row = {
        "song": facts["id"],
        "title": facts["title"],
        "key": facts["key"],
        "meter": facts["meter"],
        "duration_seconds": facts.get("duration_seconds", facts["midi_seconds"]),
        "tempo_bpm": facts["tempo_bpm"],
        "tempo": "",
        "spectral_centroid_hz": facts.get("spectral_centroid_hz", ""),
        "timbre": "",
        "loudness_dbfs": facts.get("loudness_dbfs", ""),
    }
    if "spectral_centroid_hz" in facts:
        row["tempo"], row["timbre"] = labels(dict(facts))
    return row


def write_results(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as CSV, atomically."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    durable.write_text(path, file.getvalue())


def format_results(rows: Iterable[Row]) -> str:
    """The table as text for a terminal, one line a song, ending with a newline."""
    header = ["song", "title", "key", "meter", "seconds", "tempo", "", "centroid", "", "loudness"]
    lines = [header]
    for row in rows:
        title = "".join(character if character.isprintable() else "?" for character in str(row["title"]))
        lines.append(
            [
                str(row["song"]),
                title if len(title) <= 32 else title[:31] + "…",
                str(row["key"]),
                str(row["meter"]),
                f"{row['duration_seconds']:.1f}",
                f"{row['tempo_bpm']:.0f} bpm",
                row["tempo"],
                _number(row["spectral_centroid_hz"], "{:.0f} Hz"),
                row["timbre"],
                _number(row["loudness_dbfs"], "{:.1f} dBFS"),
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    right = {0, 4, 5, 7, 9}
    return "".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        + "\n"
        for line in lines
    )


def _number(value: Any, form: str) -> str:
    return form.format(value) if value != "" else ""
