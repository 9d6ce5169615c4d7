"""Read tunes as a musician counts: how long the bar has lasted, how much of it is left, which bar it is.

An automaton over characters (``signs``) with some counters a row (``kernels.counting``). It may stop behind
any character and go on, so the same serves whole tunes in training and one character after the other in
sampling, and it says enough for a mask of what would make a bar too long. It is exact: a bar lasts what
``notation.bars`` says, tuplets, broken rhythm, chords and endings included. Not counted apart are overlaid
voices (``&``) and those of V:.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reelmill.corpus.vocabulary import Vocabulary
from reelmill.metrical.kernels import counting as k
from reelmill.metrical.kernels.counting import Action, count
from reelmill.metrical.signs import FIRST_OF_BODY, codes, table

SIZES = (k.MOST_LASTED + 2, k.MOST_LEFT - k.LEAST_LEFT + 2, k.MOST_BARS + 2, k.MOST_SECTIONS + 2)
"""How many values each part of a place has, the anchor apart."""


class Reader:
    """Reads the characters of a vocabulary on ``device``.

    A place is five integers: sixteenths that the bar has lasted, sixteenths that are left of it, its number
    in the section, the section's number, each from 1 on, below its ``SIZES`` and 0 where there is none (in
    the header; ``left`` in free meter); and the anchor, which grows by ``ANCHOR`` from a place to the same
    place in the next bar, and is -1 in the header. A rest of a sixteenth that is left counts as one, so none
    is left only in a full bar.
    """

    def __init__(self, vocabulary: Vocabulary, device: torch.device) -> None:
        self._codes = torch.from_numpy(codes(vocabulary)).to(device)
        self._table = torch.from_numpy(table()).to(device)

    def begin(self, rows: int) -> Tensor:
        """The counters of ``rows`` tunes before their first character, int64 [counters, rows]."""
        return torch.zeros(k.COUNTERS, rows, dtype=torch.int64, device=self._codes.device)

    def read(self, characters: Tensor, counters: Tensor) -> Tensor:
        """Places, int64 [rows, time, 5], behind each of ``characters``, int64 [rows, time], on a CPU.

        A start mark begins a tune. ``counters`` go on in place.
        """
        places = torch.empty(*characters.shape, k.PLACES, dtype=torch.int64)
        given, known, table = (each.contiguous().numpy() for each in (characters, self._codes, self._table))
        count(given, known, table, int(FIRST_OF_BODY), counters.numpy(), places.numpy())
        return places

    def read_by_pytorch(self, characters: Tensor, counters: Tensor) -> Tensor:
        """The same on any device, one operation after the other."""
        places = []
        for at in range(characters.shape[1]):
            code = self._codes[characters[:, at]].to(torch.int64)
            mode, action = self._table[counters[k.MODE], code].unbind(1)
            counters.copy_(_counted(mode, action, code - ord("0"), counters))
            places.append(_place(counters))
        return torch.stack(places, dim=1)


def _counted(mode: Tensor, action: Tensor, digit: Tensor, counters: Tensor) -> Tensor:
    """The counters after ``action``, [counters, rows]."""
    state = list((counters * (action != Action.BEGIN)).unbind())
    state[k.MODE] = mode

    def on(actions: tuple[Action, ...], index: int, value: Tensor | int) -> None:
        state[index] = torch.where(_any(action, actions), value, state[index])

    lasted, whole = _lasted(state), k.WHOLE
    # Fields.
    total = state[k.SLASHES] + state[k.NUMERATOR]
    value = total * whole // state[k.DENOMINATOR].clamp(min=1)
    on((Action.METER,), k.METER, value)
    on((Action.METER,), k.COMPOUND, ((total % 3 == 0) & (total > 3)).to(torch.int64))
    on((Action.UNIT,), k.UNIT, torch.where(value > 0, value, state[k.UNIT]))
    short = (state[k.METER] > 0) & (4 * state[k.METER] < 3 * whole)
    unit = torch.where(short, whole // 16, whole // 8)
    on((Action.BODY,), k.UNIT, torch.where(state[k.UNIT] == 0, unit, state[k.UNIT]))
    # Tuplets and broken rhythm.
    on((Action.BROKEN_UP,), k.PENDING, (state[k.PENDING] + 1).clamp(max=3))
    on((Action.BROKEN_DOWN,), k.PENDING, (state[k.PENDING] - 1).clamp(min=-3))
    in_three = torch.where(state[k.COMPOUND] > 0, 3, 2)
    for notes, time in ((2, 3), (3, 2), (4, 3), (6, 2), (8, 3)):
        in_three = torch.where(digit == notes, time, in_three)
    on((Action.TUPLET,), k.TIME, in_three)
    on((Action.TUPLET,), k.NOTES, digit)
    on((Action.TUPLET,), k.LEFT, digit)
    on((Action.TUPLET_TIME,), k.TIME, torch.where(digit > 0, digit, state[k.TIME]))
    on((Action.TUPLET_COUNT,), k.LEFT, torch.where(digit > 0, digit, state[k.LEFT]))
    # Bars.
    line = (action == Action.LINE) & (state[k.METER] > 0) & (lasted == state[k.METER])
    ends = _any(action, (Action.BAR, Action.BAR_AND_EDGE, Action.ENDING)) | line
    counts = (ends & (lasted > 0) & (4 * lasted >= 3 * state[k.METER])).to(torch.int64)
    state[k.BARS], state[k.ALL_BARS] = state[k.BARS] + counts, state[k.ALL_BARS] + counts
    restarts = ends | (action == Action.OVERLAY)
    for index in _OF_BAR:
        state[index] = state[index] * ~restarts
    edge = (Action.EDGE, Action.BAR_AND_EDGE)
    on(edge, k.SECTIONS, state[k.SECTIONS] + (state[k.BARS] > 0))
    on(edge, k.BARS, 0)
    again = (digit != 1) & (state[k.ENDING] > 0)
    back = (again & (state[k.BARS] == 0) & (state[k.SECTIONS] > 0)).to(torch.int64)
    on((Action.ENDING,), k.SECTIONS, state[k.SECTIONS] - back)
    on((Action.ENDING,), k.BARS, torch.where(again, state[k.ENDING], state[k.BARS]))
    on((Action.ENDING,), k.ENDING, torch.where(digit == 1, state[k.BARS], state[k.ENDING]))
    # Notes.
    begun = (Action.NOTE, Action.WHOLE_BAR)
    on(begun, k.BEGUN, lasted)
    on(begun, k.WRITTEN_BEFORE, state[k.WRITTEN])
    on(begun, k.LASTED_BEFORE, state[k.LASTS])
    on(begun, k.BROKEN, state[k.PENDING])
    on(begun, k.PENDING, 0)
    on(begun, k.NOTES, torch.where(state[k.LEFT] > 0, state[k.NOTES], 1))
    on(begun, k.TIME, torch.where(state[k.LEFT] > 0, state[k.TIME], 1))
    on(begun, k.LEFT, (state[k.LEFT] - 1).clamp(min=0))
    on((Action.NOTE,), k.BASE, state[k.UNIT])
    on((Action.WHOLE_BAR,), k.BASE, state[k.METER])
    on((Action.CHORD,), k.BASE, state[k.WRITTEN])
    # Numbers.
    on((Action.PLUS,), k.SLASHES, total)
    more = [(state[index] * 10 + digit).clamp(max=k.LARGEST) for index in (k.NUMERATOR, k.DENOMINATOR)]
    on((Action.NUMERATOR, Action.NOTE_NUMERATOR), k.NUMERATOR, more[0])
    on((Action.DENOMINATOR, Action.NOTE_DENOMINATOR), k.DENOMINATOR, more[1])
    on((Action.NOTE_SLASH,), k.SLASHES, (state[k.SLASHES] + 1).clamp(max=6))
    on((Action.PLUS,), k.NUMERATOR, 0)
    on((Action.COMMON_TIME,), k.NUMERATOR, 1)
    for index in (k.NUMERATOR, k.SLASHES, k.DENOMINATOR):
        on((*begun, Action.CHORD, Action.VALUE), index, 0)
    _measure(action >= Action.NOTE, state)
    return torch.stack(state)


_OF_BAR = (k.BEGUN, k.WRITTEN, k.LASTS, k.SHIFT, k.LEFT, k.PENDING, k.BROKEN)


def _measure(changed: Tensor, state: list[Tensor]) -> None:
    """How long the last note lasts, where that has changed."""
    under = torch.where(state[k.DENOMINATOR] > 0, state[k.DENOMINATOR], 1 << state[k.SLASHES].clamp(max=6))
    written = state[k.BASE] * state[k.NUMERATOR].clamp(min=1) // under
    lasts = written * state[k.TIME] // state[k.NOTES].clamp(min=1)
    half = 1 << state[k.BROKEN].abs()
    counts = (state[k.BROKEN] != 0) & (written == state[k.WRITTEN_BEFORE])
    up = state[k.BROKEN] > 0
    shift = state[k.LASTED_BEFORE] * (half - 1) // half * torch.where(up, 1, -1)
    halved = torch.where(up, lasts // half, lasts * (2 * half - 1) // half)
    for index, value in (
        (k.WRITTEN, written),
        (k.LASTS, torch.where(counts, halved, lasts)),
        (k.SHIFT, shift * counts),
    ):
        state[index] = torch.where(changed, value, state[index])


def _any(action: Tensor, actions: tuple[Action, ...]) -> Tensor:
    found = action == actions[0]
    for other in actions[1:]:
        found = found | (action == other)
    return found


def _lasted(state: list[Tensor]) -> Tensor:
    return state[k.BEGUN] + state[k.SHIFT] + state[k.LASTS]


def _place(counters: Tensor) -> Tensor:
    state = list(counters.unbind())
    in_body = state[k.MODE] >= FIRST_OF_BODY
    lasted = _lasted(state)
    left = state[k.METER] - lasted
    grid = torch.where(left > 0, -(-left * k.GRID // k.WHOLE), left * k.GRID // k.WHOLE)
    grid = grid.clamp(k.LEAST_LEFT, k.MOST_LEFT) - k.LEAST_LEFT + 1
    parts = [
        (lasted * k.GRID // k.WHOLE).clamp(max=k.MOST_LASTED) + 1,
        grid * (state[k.METER] > 0),
        state[k.BARS].clamp(max=k.MOST_BARS) + 1,
        state[k.SECTIONS].clamp(max=k.MOST_SECTIONS) + 1,
        state[k.ALL_BARS] * k.ANCHOR + lasted.clamp(max=k.ANCHOR - 2) + 1,
    ]
    said = torch.stack([part * in_body for part in parts], dim=1)
    said[:, 4] -= 1
    return said
