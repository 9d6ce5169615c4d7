"""What a command prints as its result: text for a person, or one JSON object."""

from __future__ import annotations

import json
import sys
from typing import Any, Protocol


class Result(Protocol):
    """What both a person and a program can read."""

    def to_json(self) -> Any: ...

    def describe(self) -> str: ...


def show(result: Result, as_json: bool) -> None:
    """Print ``result`` on standard output."""
    if as_json:
        print_json(result.to_json())
    else:
        print(result.describe())


def songs_exit_code(complete: bool, songs: int) -> int:
    """0 if what was asked for is complete and there is any of the ``songs``; else 1, and why."""
    if complete and not songs:
        print("reelmill: there is no song in it: every id is a declared failure", file=sys.stderr)
    return 0 if complete and songs else 1


def print_json(value: Any) -> None:
    """Print ``value`` as JSON on one line of standard output."""
    print(json.dumps(value, ensure_ascii=False))
