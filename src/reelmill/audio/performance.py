"""A MIDI file as it is to be heard: played by an instrument, its last notes held until they have rung out."""

from __future__ import annotations

from dataclasses import dataclass, field

from reelmill.audio.midi import variable

_DRUMS = 9  # the channel whose notes are drums, whatever its program


def performed(midi: bytes, program: int, ring: float) -> bytes:
    """``midi`` with ``program`` (from 0) on every channel but the drums', and ``ring`` seconds added to the
    notes that end last. ``midi`` is a file that ``read_midi`` reads.
    """
    tracks: list[_Track] = []
    place = 14
    while place < len(midi):
        size = int.from_bytes(midi[place + 4 : place + 8], "big")
        tracks.append(_read(midi[place + 8 : place + 8 + size]))
        place += 8 + size
    last = max(track.end for track in tracks)
    tempos = [tempo for track in tracks for tempo in track.tempos if tempo[0] < last]
    pace = max(tempos, default=(0, 500_000))[1]
    ticks = round(ring * 1e6 / pace * int.from_bytes(midi[12:14], "big"))
    changes = b"".join(bytes((0, 0xC0 | channel, program)) for channel in range(16) if channel != _DRUMS)
    pieces = [midi[:14]]
    for track in tracks:
        data = _held(track, ticks) if track.end == last > 0 else track.data
        data = changes + data if program else data
        pieces += [b"MTrk", len(data).to_bytes(4, "big"), data]
    return b"".join(pieces)


@dataclass
class _Track:
    """A track, and where and when its last notes end."""

    data: bytes
    tempos: list[tuple[int, int]] = field(default_factory=list)  # (tick, microseconds a quarter)
    end: int = 0  # the tick
    place: int = 0  # of the time before the first event that ends a note then
    after: int = 0  # where that time ends


def _held(track: _Track, ticks: int) -> bytes:
    time, _ = variable(track.data, track.place)
    return track.data[: track.place] + _written(time + ticks) + track.data[track.after :]


def _read(data: bytes) -> _Track:
    track = _Track(data)
    tick, status, place = 0, 0, 0
    while place < len(data):
        before = place
        time, place = variable(data, place)
        after = place
        tick += time
        if data[place] > 0x7F:
            status = data[place]
            place += 1
        if status < 0xF0:
            off = status < 0x90 or (status < 0xA0 and not data[place + 1])
            if off and tick > track.end:
                track.end, track.place, track.after = tick, before, after
            place += 1 if 0xC0 <= status < 0xE0 else 2
            continue
        kind = data[place]
        size, place = variable(data, place + (status == 0xFF))
        if status == 0xFF and kind == 0x51:
            track.tempos.append((tick, int.from_bytes(data[place : place + size], "big")))
        place += size
    return track


def _written(value: int) -> bytes:
    """``value`` as a quantity of variable length."""
    written = [value & 0x7F]
    while value := value >> 7:
        written.append(value & 0x7F | 0x80)
    return bytes(reversed(written))
