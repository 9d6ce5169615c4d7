"""What a command prints as its result: text for a person, or one JSON object."""

from __future__ import annotations

import json
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


def print_json(value: Any) -> None:
    """Print ``value`` as JSON on one line of standard output."""
    print(json.dumps(value, ensure_ascii=False))
