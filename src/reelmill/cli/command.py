"""What a command of ``reelmill`` is."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple


class Command(NamedTuple):
    """What it does in a line, an example of it, its options, and the function that does it and gives its exit
    code.
    """

    summary: str
    example: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


class HelpFormatter(argparse.HelpFormatter):
    """Names each default that says something and is not named already, and keeps examples on their lines."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help, action.default
        if not text or "default" in text or default in (None, argparse.SUPPRESS) or default is False:
            return text
        return text if default == [] else f"{text} (default: %(default)s)"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = super()._fill_text  # an indented paragraph is for copying, and stays on its line
        return "\n\n".join(
            paragraph if paragraph.startswith(" ") else filled(paragraph, width, indent)
            for paragraph in text.split("\n\n")
        )
