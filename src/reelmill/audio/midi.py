"""ABC to MIDI, and what a MIDI file lasts, holds and means.

In: the text of one tune. Out: a ``Midi`` that is a function of that text alone, and a judgement of it. What
would make abc2midi run long or write much is refused by its content before it runs (``excess``), so that the
limits on time and memory are only there for what nobody thought of.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from reelmill.audio import abc2midi

FEWEST_NOTES = 16
LONGEST = 600.0  # seconds of music
SLOWEST, FASTEST = 20.0, 500.0  # quarters a minute
MOST_CHARACTERS = 50_000
LARGEST_NUMBER = 999  # in music and in the fields that shape it; note lengths, rests, tuplets, voices
MOST_REST_BARS = 1_000  # Z and X rests together
MOST_PARTS = 64  # that a P: field expands to; abc2midi writes past its buffer at 100 and goes on at random

_ERROR = re.compile(r"Error in line-char \d+-\d+ : *")
# Fields that hold text for people: numbers in them shape nothing.
_TEXT_FIELD = re.compile(r"[ABCDFGHNORSTWXZrsw]:")
_LONG_NUMBER = re.compile(rf"\d{{{len(str(LARGEST_NUMBER)) + 1}}}")
_REST_BARS = re.compile(r"[ZX](\d+)")
_PARTS = re.compile(r"^\s*P:(.*)", re.MULTILINE)


@dataclass(frozen=True)
class Midi:
    """A standard MIDI file and its facts. ``data`` is empty if the tune gave none: ``errors`` says why."""

    data: bytes
    notes: int = 0  # note-ons of a velocity above 0
    errors: list[str] = field(default_factory=list)  # abc2midi's Error lines as they are
    warnings: int = 0
    seconds: float = 0.0  # to the end of the last note
    tempo: float = 0.0  # quarters a minute: the mean up to the end of the last note


def abc_to_midi(abc: str, timeout: float = 60.0) -> Midi:
    """Convert one tune with a process of abc2midi.

    ``%%`` instructions are stripped, X: becomes 1, and the tune ends at its first empty line (ABC 2.1,
    section 2.2). ``timeout`` is in seconds of the wall clock and a safeguard against a broken machine. Raises
    ToolError for a fault of the machine, RequestError if there is no abc2midi.
    """
    tune = _prepared(abc)
    reason = excess(tune)
    if reason:
        return Midi(b"", errors=[f"Error: {reason}"])
    made = abc2midi.convert(tune, timeout)
    errors = [line for line in made.messages if line.startswith("Error")]
    if made.failure:
        errors.append(f"Error: abc2midi {made.failure}")
    elif not made.midi:
        errors.append("Error: abc2midi made no MIDI file")
    warnings = sum(line.startswith("Warning") for line in made.messages)
    if not made.midi:
        return Midi(b"", errors=errors, warnings=warnings)
    try:
        contents = read_midi(made.midi)
    except ValueError as error:
        return Midi(b"", errors=[*errors, f"Error: {error}"], warnings=warnings)
    return Midi(made.midi, contents.notes, errors, warnings, contents.seconds, contents.tempo)


def midi_problem(midi: Midi) -> str:
    """Why this MIDI is no song, as one short phrase that is the same everywhere; "" if it is one."""
    if midi.errors:
        # Positions and quoted text differ between tunes, and abc2midi can quote past the end of its input.
        reason = _ERROR.sub("", midi.errors[0]).removeprefix("Error: ").split('"')[0]
        return f"abc2midi: {reason.strip()[:80]}"
    if midi.notes < FEWEST_NOTES:
        return f"fewer than {FEWEST_NOTES} notes"
    if not 0 < midi.seconds <= LONGEST:
        return f"longer than {LONGEST:.0f} seconds"
    if not SLOWEST <= midi.tempo <= FASTEST:
        return f"tempo outside {SLOWEST:.0f} to {FASTEST:.0f} quarters a minute"
    return ""


def excess(abc: str) -> str:
    """What in the text would take abc2midi out of proportion, as a short phrase; "" if nothing does."""
    if len(abc) > MOST_CHARACTERS:
        return f"longer than {MOST_CHARACTERS} characters"
    music = "\n".join(line for line in abc.splitlines() if not _TEXT_FIELD.match(line))
    if _LONG_NUMBER.search(music):
        return f"a number above {LARGEST_NUMBER}"
    if sum(int(bars) for bars in _REST_BARS.findall(music)) > MOST_REST_BARS:
        return f"more than {MOST_REST_BARS} bars of rest"
    for parts in _PARTS.findall(music):
        # At least what the field expands to: A2(B3C)4 is no more than 3 letters times 2 times 3 times 4.
        if len(re.findall("[A-Z]", parts)) * math.prod(map(int, re.findall(r"\d+", parts))) > MOST_PARTS:
            return f"more than {MOST_PARTS} parts"
    return ""


@dataclass(frozen=True)
class MidiContents:
    """Facts of a MIDI file."""

    notes: int  # note-ons of a velocity above 0
    seconds: float  # to the end of the last note
    tempo: float  # quarters a minute, the mean over that time


def read_midi(data: bytes) -> MidiContents:
    """Facts of a standard MIDI file of format 0 or 1 (The Complete MIDI 1.0 Detailed Specification, SMF 1.0).

    Raises ValueError if it is malformed or times by SMPTE frames.
    """
    division = int.from_bytes(data[12:14], "big")
    if len(data) < 14 or data[:8] != b"MThd\0\0\0\6" or not 0 < division < 0x8000:
        raise ValueError("not a MIDI file that counts in quarters")
    notes, last, place, tracks = 0, 0, 14, 0
    tempos: list[tuple[int, int]] = []
    while place < len(data):
        size = int.from_bytes(data[place + 4 : place + 8], "big")
        if data[place : place + 4] != b"MTrk" or place + 8 + size > len(data):
            raise ValueError("MIDI file with a broken track")
        try:
            found, end = _read_track(data[place + 8 : place + 8 + size], tempos)
        except IndexError:
            raise ValueError("MIDI file with a broken event") from None
        notes, last, place, tracks = notes + found, max(last, end), place + 8 + size, tracks + 1
    if tracks != int.from_bytes(data[10:12], "big"):
        raise ValueError("MIDI file with missing tracks")
    seconds = _seconds(last, division, tempos)
    return MidiContents(notes, seconds, last / division * 60 / seconds if seconds else 0.0)


def _prepared(abc: str) -> str:
    tune = re.sub(r"\r\n?", "\n", abc).replace("\0", "").lstrip()
    tune = re.split(r"\n[ \t]*\n", tune, maxsplit=1)[0]
    lines = [line.partition("%%")[0] for line in tune.split("\n")]
    numbered = [re.sub(r"^X:.*", "X:1", line) for line in lines if line.strip()]
    return "\n".join(numbered) + "\n"


def _read_track(track: bytes, tempos: list[tuple[int, int]]) -> tuple[int, int]:
    """Notes in a track, and the tick at which its last note begins or ends; its tempos are added."""
    notes, last, tick, status, place, end = 0, 0, 0, 0, 0, len(track)
    while place < end:
        delta = track[place]
        place += 1
        if delta > 0x7F:
            delta, place = _variable(track, place - 1)
        tick += delta
        byte = track[place]
        if byte > 0x7F:
            status = byte
            place += 1
        if status < 0xA0:
            if status < 0x80:
                raise IndexError
            if status >= 0x90 and track[place + 1]:
                notes += 1
            last = tick
            place += 2
        elif status < 0xF0:
            place += 1 if 0xC0 <= status < 0xE0 else 2
        else:
            if status == 0xFF:
                kind = track[place]
                size, place = _variable(track, place + 1)
                if kind == 0x51:
                    tempos.append((tick, int.from_bytes(track[place : place + size], "big")))
            else:
                size, place = _variable(track, place)
            place += size
    return notes, last


def _variable(track: bytes, place: int) -> tuple[int, int]:
    value = 0
    while True:
        byte = track[place]
        place += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place


def _seconds(last: int, division: int, tempos: list[tuple[int, int]]) -> float:
    """Seconds up to tick ``last``; ``tempos`` are (tick, microseconds a quarter); 500,000 come before."""
    microseconds, since, pace = 0, 0, 500_000
    for tick, quarter in sorted(tempos):
        if tick >= last:
            break
        microseconds += (tick - since) * pace
        since, pace = tick, quarter
    microseconds += (last - since) * pace
    return microseconds / division / 1e6
