"""ABC to MIDI, and what a MIDI file lasts, holds and means.

In: the text of one tune. Out: a ``Midi`` that is a function of that text alone, and a judgement of it. What
would make abc2midi run long or write much is refused by its content before it runs (``excess``), so that the
limits on time and memory are only there for what nobody thought of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from reelmill.audio import abc2midi
from reelmill.audio.tempo import with_tempo
from reelmill.notation.chords import chord_symbol
from reelmill.notation.keys import names_key, parse_key
from reelmill.notation.parts import TooManyParts, play_order
from reelmill.notation.text import unescaped

FEWEST_NOTES = 16
LONGEST = 600.0  # seconds of music
SLOWEST, FASTEST = 20.0, 500.0  # quarters a minute
MOST_CHARACTERS = 50_000
LARGEST_NUMBER = 999  # in music and in the fields that shape it; note lengths, rests, tuplets, voices
MOST_REST_BARS = 1_000  # Z and X rests together

_ERROR = re.compile(r"Error in line-char \d+-\d+ : *")
# What is for people or for typesetting: numbers in it shape nothing. Voices are names.
_TEXT_FIELD = re.compile(r"[ABCDFGHINOPRSTUVWXZrsw]:")
_TEXT = re.compile(r'%.*|"[^"\n]*"|![^!\s]*!|\[[ABCDFGHINOPRSTUVWXZrsw]:[^\]\n]*\]')
_LONG_NUMBER = re.compile(rf"\d{{{len(str(LARGEST_NUMBER)) + 1}}}")
_REST_BARS = re.compile(r"[ZX](\d+)")
_ORDER = re.compile(r"^[ \t]*P:(.*)\n?", re.MULTILINE)
_INSTRUCTION = re.compile(r"^[ \t]*[Ir]:(?![|:]).*\n?", re.MULTILINE)
_IN_BODY = re.compile(r"^[ \t]*[NU]:.*\n?|\[[A-DF-JNORSTUWXZmrsw]:[^\]\n]*\]", re.MULTILINE)
_NOTE = r"[\^_=]{0,2}[A-Ga-g][,']*[\d/]*"
# What makes a note shorter or longer, or several, before it is compared with its neighbour; other signs may
# stand beside it.
_CHANGES = r"(?:[.H~]|!(?:staccato|fermata|roll)!)"
_SIGNS = "[LMOPSTuv]*"
_SOUND = rf"(?:{_NOTE}|\[(?:{_NOTE})+\][\d/]*)"
_CHANGED = re.compile(
    rf"([<>-][ ()]*{_SIGNS}){_CHANGES}+(?={_SIGNS}{_SOUND})|{_CHANGES}+(?={_SIGNS}{_SOUND}[ )]*[<>-])"
)
_CHANGED_IN_HORNPIPE = re.compile(rf"{_CHANGES}+(?={_SIGNS}{_SOUND})")
_HORNPIPE = re.compile(r"^R:.*ornpipe.*\n", re.MULTILINE)
_OTHER_METER = re.compile(r"^M:(?![ \t]*(?:[24]/4|C(?!\|)))", re.MULTILINE)
_QUOTED = re.compile(r'" ?([A-G][^"\n]*)"')
_KEY_WORDS = re.compile(r"^([ \t]*K:)(.*=.*)|(\[K:)([^\]\n]*=[^\]\n]*)(?=\])", re.MULTILINE)


@dataclass(frozen=True)
class Midi:
    """A standard MIDI file and its facts. ``data`` is empty if the tune gave none: ``errors`` says why."""

    data: bytes
    notes: int = 0  # note-ons of a velocity above 0
    errors: list[str] = field(default_factory=list)  # abc2midi's Error lines as they are
    warnings: int = 0
    seconds: float = 0.0  # to the end of the last note
    tempo: float = 0.0  # quarters a minute: the mean up to the end of the last note


def abc_to_midi(abc: str, timeout: float = 60.0, tempos: Mapping[str, str] | None = None) -> Midi:
    """Convert one tune with a process of abc2midi, at the tempo of its Q:, else by ``tempos``.

    ``%%`` instructions are stripped, X: becomes 1, and the tune ends at its first empty line (ABC 2.1,
    section 2.2). ``timeout`` is in seconds of the wall clock and a safeguard against a broken machine. Raises
    ToolError for a fault of the machine, RequestError if there is no abc2midi.
    """
    tune = _prepared(abc)
    reason = excess(tune)
    if reason:
        return Midi(b"", errors=[f"Error: {reason}"])
    made = abc2midi.convert(with_tempo(tune, tempos or {}), timeout)
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
    if _LONG_NUMBER.search(music) and _LONG_NUMBER.search(_TEXT.sub("", music)):
        return f"a number above {LARGEST_NUMBER}"
    rests = _REST_BARS.findall(_TEXT.sub("", music)) if "Z" in music or "X" in music else ()
    if sum(map(int, rests)) > MOST_REST_BARS:
        return f"more than {MOST_REST_BARS} bars of rest"
    for order in _ORDER.findall(abc.partition("\nK:")[0]):
        try:
            play_order(order.partition("%")[0])
        except TooManyParts as error:
            return str(error)
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
    tune = re.sub(r"\r\n?", "\n", abc).replace("\0", "").lstrip("\ufeff \t\n\v\f")
    tune = re.split(r"\n[ \t]*\n", tune, maxsplit=1)[0]
    lines = [line.partition("%%")[0] for line in tune.split("\n")]
    numbered = [re.sub(r"^X:(?![:|\]]).*", "X:1", line) for line in lines if line.strip()]
    return _as_known("\n".join(numbered) + "\n")


def _as_known(tune: str) -> str:
    """``tune`` with what ABC 2.1 allows and abc2midi does not know written as it knows it, or left out.

    Chord symbols get the names it has, and what HTML escapes is unescaped. I:, which is another way to write
    ``%%``, goes, and so do remarks, text within the body, words in P: that are no order of parts, words in K:
    that mean nothing, a hornpipe's R: in a meter that abc2midi has no swing for, and dots, fermatas and rolls
    beside ``>``, ``<`` and ``-``, and in hornpipes, which change a note before it is compared.
    """
    if "&" in tune or "<b" in tune:
        tune = unescaped(tune)
    if "ornpipe" in tune:
        tune = _HORNPIPE.sub(lambda found: "" if _OTHER_METER.search(tune) else found[0], tune)
    if '"' in tune:
        tune = _QUOTED.sub(lambda quoted: f'"{chord_symbol(quoted[1]) or quoted[1]}"', tune)
    if "I:" in tune or "r:" in tune:
        tune = _INSTRUCTION.sub("", tune)
    if "K:" in tune and "=" in tune:
        tune = _KEY_WORDS.sub(_plain_key, tune)
    head, key, body = tune.partition("\nK:")
    if "P:" in head:
        head = _ORDER.sub(_order_or_nothing, head + "\n").removesuffix("\n")
    body = _CHANGED.sub(r"\1", body)
    if _HORNPIPE.search(head + "\n"):
        body = _CHANGED_IN_HORNPIPE.sub("", body)
    return head + key + (_IN_BODY.sub("", body) if ":" in body else body)


def _plain_key(field: re.Match[str]) -> str:
    start, value = (field[1], field[2]) if field[1] else (field[3], field[4])
    key = parse_key(value.partition("%")[0]) if names_key(value) else None
    return start + (key.text if key else value)


def _order_or_nothing(field: re.Match[str]) -> str:
    try:
        order = play_order(field[1].partition("%")[0])
    except TooManyParts:
        return field[0]  # which ``excess`` will say
    return field[0] if order else ""


def _read_track(track: bytes, tempos: list[tuple[int, int]]) -> tuple[int, int]:
    """Notes in a track, and the tick at which its last note begins or ends; its tempos are added."""
    notes, last, tick, status, place, end = 0, 0, 0, 0, 0, len(track)
    while place < end:
        delta = track[place]
        place += 1
        if delta > 0x7F:
            delta, place = variable(track, place - 1)
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
                size, place = variable(track, place + 1)
                if kind == 0x51:
                    tempos.append((tick, int.from_bytes(track[place : place + size], "big")))
            else:
                size, place = variable(track, place)
            place += size
    return notes, last


def variable(track: bytes, place: int) -> tuple[int, int]:
    """A quantity of variable length at ``place``, and the place behind it."""
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
