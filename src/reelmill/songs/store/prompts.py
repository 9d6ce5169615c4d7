"""What songs begin with: a text as it is, or header fields, written as training tunes have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from reelmill.config import Config, nearest
from reelmill.errors import RequestError
from reelmill.notation.canonical import NotATune, field_value
from reelmill.notation.validity import opening_problem

if TYPE_CHECKING:
    from reelmill.model import TrainedModel

FIELDS = {"title": "T", "rhythm": "R", "meter": "M", "key": "K"}
"""What may be said of a song before it is sampled, in the order of canonical form."""
_UNIT = "L:1/8"  # before a key, which ends the header: it is what most tunes have, in every meter

Prompt = str | Mapping[str, str]


def prompt_text(prompt: Prompt) -> str:
    """The text of a prompt: of ``{"meter": "6/8", "rhythm": "Jig"}`` the lines X:1, R:jig and M:6/8.

    What is not said is left to the model. Raises RequestError where a field is unknown or malformed, or where
    a key would keep the model from choosing a meter.
    """
    if isinstance(prompt, str):
        return prompt
    unknown = next((name for name in prompt if name not in FIELDS), "")
    if unknown:
        raise RequestError(f"songs.prompts: there is no {unknown!r}{nearest(unknown, list(FIELDS))}")
    if "key" in prompt and "meter" not in prompt:
        raise RequestError(
            f"songs.prompts: key {prompt['key']!r} ends the header, "
            "so the model can add no meter; give a meter, too"
        )
    lines = ["X:1"]
    for name, field in FIELDS.items():
        if name in prompt:
            lines += [_UNIT] if name == "key" else []
            lines.append(f"{field}:{_value(name, prompt[name])}")
    return "\n".join(lines) + "\n"


def check_prompts(config: Config, model: TrainedModel) -> None:
    """RequestError if a prompt cannot begin a song of this model."""
    check_openings(config)
    for prompt in map(prompt_text, config.songs.prompts):
        try:
            length = len(model.vocabulary.encode(prompt, unknown="error"))
        except ValueError as error:
            raise RequestError(f"songs.prompts: {prompt!r}: {error}") from None
        if length >= config.sampling.max_length:
            raise RequestError(
                f"songs.prompts: {prompt!r} has {length} characters, "
                f"sampling.max_length is {config.sampling.max_length}"
            )


def check_openings(config: Config) -> None:
    """RequestError if a prompt cannot begin what ``songs.require`` asks for, whatever the model."""
    for prompt in map(prompt_text, config.songs.prompts):
        check_opening(prompt, config.songs.require, "songs.prompts")


def check_opening(prompt: str, require: str, source: str) -> None:
    """RequestError naming ``source`` if no text that begins with ``prompt`` is what ``require`` asks for."""
    problem = opening_problem(prompt) if require != "none" else ""
    if problem:
        raise RequestError(
            f"{source}: no valid tune begins with {prompt!r}: {problem}. "
            "A tune begins with X:1, and K: ends its header, for example 'X:1\\nM:6/8\\nL:1/8\\nK:Ddor\\n'"
        )


def _value(name: str, text: str) -> str:
    try:
        value = field_value(FIELDS[name], text)
    except NotATune as error:
        raise RequestError(f"songs.prompts: {name} {text!r}: {error.reason}") from None
    if not value:
        raise RequestError(f"songs.prompts: {name} {text!r}: nothing of it can stand in a header")
    return value
