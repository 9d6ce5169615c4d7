"""The order of parts (P: in the header), ABC 2.1 section 3.1.9, and a body written out in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from reelmill.notation.header import body_field

MOST_PARTS = 64  # that an order expands to; abc2midi writes past its buffer at 100 and goes on at random

_STEP = re.compile(r"([A-Z])(\d{0,3})|(\()|\)(\d{0,3})|[\s.,*-]+")
_INLINE = re.compile(r"\[([A-Za-z]):([^\]]*)\]")
_NAME = re.compile(r"[A-Z](?![A-Za-z])")
_STATE = "KMLV"
_REPEAT = re.compile(r"\|:|::|:\|")
_END = re.compile(r"(?:::|:\|\|?:)\s*$")
_QUOTED = re.compile(r'"[^"]*"')


class TooManyParts(ValueError):
    """An order of parts that expands to more than ``MOST_PARTS``."""


def play_order(value: str) -> str | None:
    """The parts that the P: field of a header plays, a letter each: ``((AB)2C)2`` gives ``ABABCABABC``.

    None if it is no order but words for people (``Variations``). Raises TooManyParts.
    """
    open_groups: list[str] = []
    parts, place = "", 0
    while place < len(value):
        step = _STEP.match(value, place)
        if not step:
            return None
        place = step.end()
        if step[1]:
            parts += _times(step[1], step[2])
        elif step[3]:
            open_groups.append(parts)
            parts = ""
        elif step[4] is not None:
            if not open_groups:
                return None
            parts = open_groups.pop() + _times(parts, step[4])
        if len(parts) > MOST_PARTS or len(open_groups) > MOST_PARTS:
            raise TooManyParts(f"more than {MOST_PARTS} parts")
    return parts if parts and not open_groups else None


def _times(parts: str, number: str) -> str:
    times = int(number or 1)
    if len(parts) * times > MOST_PARTS:
        raise TooManyParts(f"more than {MOST_PARTS} parts")
    return parts * times


@dataclass
class _Part:
    state: dict[str, str]  # the values of K:, M:, L: and V: where it begins
    lines: list[str] = field(default_factory=list)


def written_out(fields: Iterable[tuple[str, str]], lines: Iterable[str]) -> list[str]:
    """The body ``lines`` of a tune in the order of parts that its header ``fields`` ask for, if any.

    What stands before the first part comes first. A part that is asked for and not there is left out; if most
    are not there, the field is no order but a word. Where a part begins in another key, meter, unit or voice
    than the one played before it ended in, fields say so; repeats stay within a part. Raises TooManyParts.
    """
    body = list(lines)
    values = dict(fields)
    order = play_order(values.get("P", ""))
    if order is None:
        return body
    state = {name: values[name] for name in _STATE if name in values and name != "V"}
    before, parts, ends = _divided(body, state)
    played = [name for name in order if name in parts]
    if 2 * len(played) < len(order):
        return body
    result, now = list(before.lines), dict(parts[next(iter(parts))].state)
    for name in played:
        part = parts[name]
        result += [f"{key}:{value}" for key, value in part.state.items() if now.get(key, value) != value]
        result += _with_own_repeats(part.lines)
        now = ends[name]
    return result


def _divided(
    body: Iterable[str], state: dict[str, str]
) -> tuple[_Part, dict[str, _Part], dict[str, dict[str, str]]]:
    """(what stands before the first part, the parts by name, the state each ends in)."""
    before = current = _Part(dict(state))
    parts: dict[str, _Part] = {}
    ends: dict[str, dict[str, str]] = {}
    name = ""
    for line in _split_at_parts(body):
        found = body_field(line)
        if found and found[0] == "P":
            label = _NAME.match(found[1])
            if label and label[0] not in parts:
                name, current = label[0], _Part(dict(state))
                parts[name] = current
            continue
        changes = [found] if found else [(change[1], change[2].strip()) for change in _INLINE.finditer(line)]
        state.update((key, value) for key, value in changes if key in _STATE)
        current.lines.append(line)
        if name:
            ends[name] = dict(state)
    for name, part in parts.items():
        ends.setdefault(name, part.state)
    return before, parts, ends


def _split_at_parts(body: Iterable[str]) -> Iterator[str]:
    """The lines, with ``[P:A]`` as lines ``P:A`` of their own."""
    for line in body:
        if body_field(line) or "[P:" not in line:
            yield line
            continue
        place = 0
        for change in _INLINE.finditer(line):
            if change[1] == "P":
                if line[place : change.start()].strip():
                    yield line[place : change.start()]
                yield f"P:{change[2].strip()}"
                place = change.end()
        if line[place:].strip():
            yield line[place:]


def _with_own_repeats(lines: list[str]) -> list[str]:
    """``lines``, begun with ``|:`` if the first repeat is not opened; ``::`` at the end is ``:|``."""
    own = list(lines)
    music = [index for index, line in enumerate(own) if not body_field(line)]
    if not music:
        return own
    own[music[-1]] = _END.sub(":|", own[music[-1]])
    signs = (_REPEAT.search(_QUOTED.sub("", own[index])) for index in music)
    first = next(filter(None, signs), None)
    if first and first[0] != "|:":
        own[music[0]] = "|:" + own[music[0]]
    return own
