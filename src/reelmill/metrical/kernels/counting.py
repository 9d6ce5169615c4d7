"""The counters of the metrical automaton, in one pass over a batch of characters."""

from __future__ import annotations

from enum import IntEnum, auto

import numpy as np
from numpy.typing import NDArray

from reelmill.compiled import compiled

WHOLE = 40320
"""Ticks of a whole note: 8!, so that halves down to 1/128 and their thirds, fifths and sevenths are whole."""

GRID = 16  # places of a whole note that are told apart
MOST_LASTED, LEAST_LEFT, MOST_LEFT, MOST_BARS, MOST_SECTIONS = 39, -8, 31, 31, 7
ANCHOR = 1 << 20  # of a bar; more ticks than any bar has
LARGEST = 9999  # number in a length, as far as it is read

# The counters of a row.
(
    MODE, UNIT, METER, COMPOUND, BEGUN, NUMERATOR, SLASHES, DENOMINATOR, BASE, WRITTEN, LASTS, SHIFT,
    NOTES, TIME, LEFT, PENDING, BROKEN, WRITTEN_BEFORE, LASTED_BEFORE, BARS, SECTIONS, ENDING, ALL_BARS,
) = range(23)  # fmt: skip
COUNTERS = 23
PLACES = 5  # what is said of each character


class Action(IntEnum):
    """What becomes of the counters; those from NOTE on reckon the last note's length anew."""

    NONE = 0
    BEGIN = auto()  # a tune
    VALUE = auto()  # of a field begins
    NUMERATOR = auto()  # a digit of it
    PLUS = auto()
    DENOMINATOR = auto()
    COMMON_TIME = auto()
    METER = auto()  # a value is read
    UNIT = auto()
    BODY = auto()  # the header is read
    BROKEN_UP = auto()
    BROKEN_DOWN = auto()
    TUPLET = auto()
    TUPLET_TIME = auto()
    TUPLET_COUNT = auto()
    BAR = auto()
    EDGE = auto()  # of a section, behind a bar
    BAR_AND_EDGE = auto()
    ENDING = auto()
    OVERLAY = auto()
    LINE = auto()  # of music is read
    NOTE = auto()
    WHOLE_BAR = auto()  # of rest
    CHORD = auto()  # is closed
    NOTE_NUMERATOR = auto()
    NOTE_SLASH = auto()
    NOTE_DENOMINATOR = auto()


@compiled
def count(
    characters: NDArray[np.int64],
    codes: NDArray[np.uint8],
    table: NDArray[np.int64],
    first_of_body: int,
    counters: NDArray[np.int64],
    places: NDArray[np.int64],
) -> None:
    """Read ``characters`` [rows, time]; ``counters`` [counters, rows] go on, ``places`` [rows, time, 5] are
    said (``reading.Reader`` has what both mean).
    """
    rows, time = characters.shape
    state = np.empty(COUNTERS, np.int64)
    for row in range(rows):
        for index in range(COUNTERS):
            state[index] = counters[index, row]
        for at in range(time):
            code = np.int64(codes[characters[row, at]])
            mode = state[MODE]
            state[MODE] = table[mode, code, 0]
            _act(int(table[mode, code, 1]), int(code) - 48, state)
            _say(state, first_of_body, places[row, at])
        for index in range(COUNTERS):
            counters[index, row] = state[index]


@compiled
def _act(action: int, digit: int, state: NDArray[np.int64]) -> None:
    if action == Action.NONE:
        return
    if action >= Action.NOTE:
        _measure(action, digit, state)
    elif action == Action.BEGIN:
        state[1:] = 0
    elif action == Action.VALUE:
        state[NUMERATOR] = state[SLASHES] = state[DENOMINATOR] = 0
    elif action == Action.NUMERATOR:
        state[NUMERATOR] = min(state[NUMERATOR] * 10 + digit, LARGEST)
    elif action == Action.PLUS:
        state[SLASHES] += state[NUMERATOR]
        state[NUMERATOR] = 0
    elif action == Action.DENOMINATOR:
        state[DENOMINATOR] = min(state[DENOMINATOR] * 10 + digit, LARGEST)
    elif action == Action.COMMON_TIME:
        state[NUMERATOR] = 1
    elif action == Action.METER or action == Action.UNIT:
        sum_ = state[SLASHES] + state[NUMERATOR]
        value = sum_ * WHOLE // max(1, state[DENOMINATOR])
        if action == Action.METER:
            state[METER] = value
            state[COMPOUND] = sum_ % 3 == 0 and sum_ > 3
        elif value > 0:
            state[UNIT] = value
    elif action == Action.BODY:
        if state[UNIT] == 0:
            state[UNIT] = WHOLE // 16 if 0 < 4 * state[METER] < 3 * WHOLE else WHOLE // 8
    elif action == Action.BROKEN_UP:
        state[PENDING] = min(state[PENDING] + 1, 3)
    elif action == Action.BROKEN_DOWN:
        state[PENDING] = max(state[PENDING] - 1, -3)
    elif action == Action.TUPLET:
        state[NOTES] = state[LEFT] = digit
        time = 3 if state[COMPOUND] else 2
        if digit == 2 or digit == 4 or digit == 8:
            time = 3
        elif digit == 3 or digit == 6:
            time = 2
        state[TIME] = time
    elif action == Action.TUPLET_TIME:
        if digit > 0:
            state[TIME] = digit
    elif action == Action.TUPLET_COUNT:
        if digit > 0:
            state[LEFT] = digit
    elif action == Action.ENDING:
        _end_bar(state)
        if digit == 1:
            state[ENDING] = state[BARS]
        elif state[ENDING] > 0:
            if state[BARS] == 0 and state[SECTIONS] > 0:
                state[SECTIONS] -= 1
            state[BARS] = state[ENDING]
    elif action == Action.OVERLAY:
        _restart(state)
    elif action == Action.LINE:
        if state[METER] > 0 and _lasted(state) == state[METER]:
            _end_bar(state)
    else:
        if action != Action.EDGE:
            _end_bar(state)
        if action != Action.BAR:
            if state[BARS] > 0:
                state[SECTIONS] += 1
            state[BARS] = 0


@compiled
def _measure(action: int, digit: int, state: NDArray[np.int64]) -> None:
    """How long the last note lasts, as far as it is read."""
    if action == Action.NOTE or action == Action.WHOLE_BAR:
        state[BEGUN] = _lasted(state)
        state[WRITTEN_BEFORE], state[LASTED_BEFORE] = state[WRITTEN], state[LASTS]
        state[BROKEN], state[PENDING] = state[PENDING], 0
        if state[LEFT] > 0:
            state[LEFT] -= 1
        else:
            state[NOTES] = state[TIME] = 1
        state[BASE] = state[UNIT] if action == Action.NOTE else state[METER]
        state[NUMERATOR] = state[SLASHES] = state[DENOMINATOR] = 0
    elif action == Action.CHORD:
        state[BASE] = state[WRITTEN]
        state[NUMERATOR] = state[SLASHES] = state[DENOMINATOR] = 0
    elif action == Action.NOTE_NUMERATOR:
        state[NUMERATOR] = min(state[NUMERATOR] * 10 + digit, LARGEST)
    elif action == Action.NOTE_SLASH:
        state[SLASHES] = min(state[SLASHES] + 1, 6)
    else:
        state[DENOMINATOR] = min(state[DENOMINATOR] * 10 + digit, LARGEST)
    under = state[DENOMINATOR] if state[DENOMINATOR] > 0 else np.int64(1) << state[SLASHES]
    state[WRITTEN] = state[BASE] * max(1, state[NUMERATOR]) // under
    state[LASTS] = state[WRITTEN] * state[TIME] // state[NOTES]
    state[SHIFT] = 0
    broken = state[BROKEN]
    if broken != 0 and state[WRITTEN] == state[WRITTEN_BEFORE]:
        half = np.int64(1) << abs(broken)
        shift = state[LASTED_BEFORE] * (half - 1) // half
        if broken > 0:
            state[SHIFT], state[LASTS] = shift, state[LASTS] // half
        else:
            state[SHIFT], state[LASTS] = -shift, state[LASTS] * (2 * half - 1) // half


@compiled
def _lasted(state: NDArray[np.int64]) -> int:
    return state[BEGUN] + state[SHIFT] + state[LASTS]


@compiled
def _restart(state: NDArray[np.int64]) -> None:
    state[BEGUN] = state[WRITTEN] = state[LASTS] = state[SHIFT] = 0
    state[LEFT] = state[PENDING] = state[BROKEN] = 0


@compiled
def _end_bar(state: NDArray[np.int64]) -> None:
    """A bar counts if it lasts three quarters of its meter, which pickups do not."""
    lasted = _lasted(state)
    if lasted > 0 and 4 * lasted >= 3 * state[METER]:
        state[BARS] += 1
        state[ALL_BARS] += 1
    _restart(state)


@compiled
def _say(state: NDArray[np.int64], first_of_body: int, place: NDArray[np.int64]) -> None:
    if state[MODE] < first_of_body:
        place[:4] = 0
        place[4] = -1
        return
    lasted = _lasted(state)
    left = state[METER] - lasted
    grid = -(-left * GRID // WHOLE) if left > 0 else left * GRID // WHOLE
    place[0] = min(lasted * GRID // WHOLE, MOST_LASTED) + 1
    place[1] = min(max(grid, LEAST_LEFT), MOST_LEFT) - LEAST_LEFT + 1 if state[METER] > 0 else 0
    place[2] = min(state[BARS], MOST_BARS) + 1
    place[3] = min(state[SECTIONS], MOST_SECTIONS) + 1
    place[4] = state[ALL_BARS] * ANCHOR + min(lasted, ANCHOR - 2)
