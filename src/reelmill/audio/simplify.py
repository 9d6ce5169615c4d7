"""A SoundFont rewritten so that symusic's synthesizer plays it in tune.

prestosynth (symusic 0.5.8) takes a sample's pitch from its header and ignores the root key that an instrument
gives it instead (generator 58), which puts TimGM6mb's piano up to three octaves off, by another interval in
each part of the keyboard. It has no low-pass filter. It remembers a resampled sample by where it begins, so
that two instruments with one sample get whichever came first. Here every zone of an instrument gets a sample
of its own: its root key and tuning in the header, the instrument's filter already applied.

Numbers are those of the SoundFont 2.04 specification, sections 7 (chunks) and 8.1.2 (generators).
"""

from __future__ import annotations

import functools
import itertools
import math
import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from reelmill.compiled import compiled

_SAMPLE_HEADER = struct.Struct("<20s5IBbHH")
_GENERATOR = struct.Struct("<Hh")
_BAG = struct.Struct("<HH")
_PADDING = 46  # zero samples after each sample (section 7.10)
_SAMPLE, _ROOT, _COARSE, _FINE, _CUTOFF, _TO_CUTOFF, _ATTENUATION, _LOOPING = 53, 58, 51, 52, 8, 11, 48, 54
_OFFSETS = (0, 1, 2, 3, 4, 12, 45, 50)
_REMEMBERED = (_SAMPLE, _ROOT, _COARSE, _FINE, _CUTOFF, _TO_CUTOFF, _ATTENUATION, _LOOPING, *_OFFSETS)
_OPEN_FILTER = 13500  # absolute cents, 20 kHz
_Zone = dict[int, int]


@functools.lru_cache(maxsize=1)  # a worker's probe and its songs play the same
def simplify(soundfont: bytes) -> bytes:
    """The same presets and instruments, a sample of its own for each zone; ValueError if malformed."""
    try:
        return _simplify(soundfont)
    except (struct.error, KeyError, IndexError) as error:
        raise ValueError(f"malformed SoundFont ({error!r})") from None


def _simplify(soundfont: bytes) -> bytes:
    lists = {body[:4]: dict(_chunks(body[4:])) for _, body in _chunks(soundfont[12:])}
    pool = np.frombuffer(lists[b"sdta"][b"smpl"], "<i2")
    tables = lists[b"pdta"]
    headers = list(_SAMPLE_HEADER.iter_unpack(tables[b"shdr"]))
    generators = [list(pair) for pair in _GENERATOR.iter_unpack(tables[b"igen"])]
    samples: list[NDArray[np.int16]] = []
    written: list[bytes] = []
    copies: dict[tuple[object, ...], int] = {}  # zones that differ in nothing prestosynth remembers share one
    length = 0
    for zone in _zones(tables[b"ibag"], generators):
        settings: _Zone = {generators[at][0]: generators[at][1] for at in zone}
        if _SAMPLE not in settings:
            continue
        key = tuple(settings.get(operator) for operator in _REMEMBERED)
        if key not in copies:
            header = headers[settings[_SAMPLE]]
            sample = _filtered(pool[header[1] : header[2]], header[5], settings)
            copies[key] = len(written)
            written.append(_moved(header, length, settings))
            samples += [sample, np.zeros(_PADDING, np.int16)]
            length += len(sample) + _PADDING
        for at in zone:
            if generators[at][0] == _SAMPLE:
                generators[at][1] = copies[key]
            elif generators[at][0] == _COARSE:
                generators[at][1] = 0
    tables[b"igen"] = b"".join(_GENERATOR.pack(*pair) for pair in generators)
    tables[b"shdr"] = b"".join(written)
    lists[b"sdta"] = {b"smpl": np.concatenate(samples).astype("<i2").tobytes()}
    body = b"sfbk" + b"".join(
        _chunk(b"LIST", kind + b"".join(_chunk(name, data) for name, data in lists[kind].items()))
        for kind in (b"INFO", b"sdta", b"pdta")
    )
    return _chunk(b"RIFF", body)


def _zones(bags: bytes, generators: list[list[int]]) -> Iterator[range]:
    starts = [first for first, _ in _BAG.iter_unpack(bags)]
    yield from (range(first, last) for first, last in itertools.pairwise(starts))


def _moved(
    header: tuple[bytes, int, int, int, int, int, int, int, int, int], start: int, zone: _Zone
) -> bytes:
    """A sample's header for its copy at ``start``, as the zone tunes it; a mono sample by itself."""
    name, begin, end, loop_begin, loop_end, rate, pitch, correction, _, _ = header
    root = zone[_ROOT] if zone.get(_ROOT, -1) >= 0 else pitch
    root = min(max(root - zone.get(_COARSE, 0), 0), 127)
    by = start - begin
    return _SAMPLE_HEADER.pack(
        name, start, end + by, loop_begin + by, loop_end + by, rate, root, correction, 0, 1
    )


def _filtered(sample: NDArray[np.int16], rate: int, zone: _Zone) -> NDArray[np.int16]:
    """The zone's low-pass filter, held an octave above where its envelope has it at the peak of the note.

    An octave above, because there a tune's spectrum up to 4 kHz is within 1 dB of what fluidsynth plays.
    """
    cents = zone.get(_CUTOFF, _OPEN_FILTER) + max(zone.get(_TO_CUTOFF, 0), 0) + 1200
    cutoff = 8.176 * 2 ** (cents / 1200)
    if cents >= _OPEN_FILTER or cutoff >= 0.45 * rate or not len(sample):
        return sample
    # A Butterworth filter of two poles by the bilinear transform. scipy.signal, which has it, takes longer to
    # import than all else that a worker needs for sound.
    warped = math.tan(math.pi * cutoff / rate)
    scale = 1 / (1 + math.sqrt(2) * warped + warped * warped)
    first, second = 2 * (warped * warped - 1) * scale, (1 - math.sqrt(2) * warped + warped * warped) * scale
    filtered = np.empty_like(sample)
    _low_pass(sample, warped * warped * scale, first, second, filtered)
    return filtered


@compiled
def _low_pass(
    sample: NDArray[np.int16], gain: float, first: float, second: float, filtered: NDArray[np.int16]
) -> None:
    before = last = 0.0  # what later samples get of this one
    for index in range(len(sample)):
        value = np.float64(sample[index])
        result = gain * value + before
        before = last + 2 * gain * value - first * result
        last = gain * value - second * result
        filtered[index] = np.int16(min(max(np.rint(result), -32768.0), 32767.0))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        yield data[place : place + 4], data[place + 8 : place + 8 + size]
        place += 8 + size + (size & 1)


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) & 1)
