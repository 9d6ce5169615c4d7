"""The sampling engine: many songs at once, each with its own random stream.

``submit`` attempts, ``step`` until some are finished, submit more. A slot holds one attempt; all slots go on
by one character together, and a finished slot is free for the next attempt at once. What an attempt becomes
depends on (model, settings, seed, song, attempt, prompt), not on the slot, the other slots or their number:
every operation works on rows alone (``products``), random numbers are keyed by position (``streams``), and
rows are padded to a number that keeps the libraries' kernels the same.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch

from reelmill.corpus.vocabulary import END, START
from reelmill.errors import RequestError
from reelmill.model import TrainedModel
from reelmill.sampling.cell import SamplingCell
from reelmill.sampling.products import MINIMUM_ROWS
from reelmill.sampling.settings import SamplingSettings
from reelmill.sampling.streams import uniforms
from reelmill.sampling.warpers import choose, probabilities

_BLOCK = 32  # characters for which random numbers are drawn at once
_CUDA_STRIDE = 16  # characters between two looks at what has finished, where a look stalls the device


@dataclass(frozen=True)
class Attempt:
    """One try at a song: its number, which try it is, and the text it begins with."""

    song: int
    number: int = 0
    prompt: str = ""


@dataclass(frozen=True)
class Sampled:
    """What an attempt became; ``text`` includes the prompt, ``ended`` is False if max_length cut it."""

    attempt: Attempt
    text: str
    ended: bool


class Engine:
    """Samples attempts in ``settings.slots`` slots."""

    def __init__(self, model: TrainedModel, settings: SamplingSettings, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.slots = settings.slots
        self.characters = 0  # sampled so far in attempts that are finished
        self.device = sampling_device(settings)
        self._cell = SamplingCell(model, settings.precision, self.device)
        self._vocabulary = model.vocabulary
        self._stride = 1 if self.device.type == "cpu" else _CUDA_STRIDE
        self._waiting: deque[tuple[Attempt, np.ndarray]] = deque()
        self._attempts: list[Attempt | None] = []
        self._allocate(0)

    @property
    def active(self) -> int:
        """Attempts submitted and not finished."""
        return len(self._waiting) + sum(attempt is not None for attempt in self._attempts)

    @property
    def free(self) -> int:
        """How many more attempts can be sampled at once."""
        return max(0, self.slots - self.active)

    def submit(self, attempt: Attempt) -> None:
        """Queue an attempt. RequestError if its prompt cannot be one for this model."""
        try:
            prompt = self._vocabulary.encode(attempt.prompt, unknown="error")
        except ValueError as error:
            raise RequestError(f"prompt {attempt.prompt!r}: {error}") from None
        if len(prompt) >= self.settings.max_length:
            raise RequestError(
                f"prompt of {len(prompt)} characters: sampling.max_length is {self.settings.max_length}"
            )
        self._waiting.append((attempt, prompt))

    @torch.inference_mode()
    def step(self) -> list[Sampled]:
        """Go on until some attempt is finished; those that are, in slot order. [] if none is active."""
        if not self.active:
            return []
        self._place()
        while True:
            for _ in range(self._stride):
                self._advance()
            if bool(self._finished.any()) and (done := self._take()):
                return done

    def _advance(self) -> None:
        logits = self._cell.step(self._current, self._hidden, self._cells)
        if self._column == _BLOCK:
            self._draw(slice(None), 0)
            self._column = 0
        chosen = choose(probabilities(logits, self.settings), self._uniforms[:, self._column])
        self._column += 1
        place = self._position.clamp(max=self.settings.max_length - 1)
        if self._prompted:
            given = self._text.gather(1, place[:, None]).squeeze(1).to(torch.int64)
            chosen = torch.where(self._position < self._prompt_length, given, chosen)
        # A finished row goes on in a stride with results nobody reads; its text and length stay as they are.
        running = ~self._finished
        ended = running & (chosen == END)
        written = torch.where(
            running & ~ended, chosen, self._text.gather(1, place[:, None]).squeeze(1).to(torch.int64)
        )
        self._text.scatter_(1, place[:, None], written[:, None].to(self._text.dtype))
        self._position += running & ~ended
        self._ended |= ended
        self._finished |= ended | (self._position >= self.settings.max_length)
        self._current = chosen

    def _take(self) -> list[Sampled]:
        rows = torch.nonzero(self._finished).squeeze(1)
        texts, lengths = self._text[rows].cpu().numpy(), self._position[rows].tolist()
        ended, done = self._ended[rows].tolist(), []
        for row, text, length, end in zip(rows.tolist(), texts, lengths, ended, strict=True):
            attempt = self._attempts[row]
            if attempt is None:
                continue
            self._attempts[row] = None
            self.characters += length
            done.append(Sampled(attempt, self._vocabulary.decode(text[:length]), end))
        # A free row idles as a song that nobody takes.
        self._finished[rows] = False
        self._ended[rows] = False
        self._position[rows] = 0
        return done

    def _place(self) -> None:
        """Give waiting attempts a row, with as few rows in all as hold them."""
        self._fit(min(self.active, self.slots))
        free = [row for row, attempt in enumerate(self._attempts) if attempt is None]
        taken = [(row, *self._waiting.popleft()) for row in free[: len(self._waiting)]]
        if taken:
            self._begin(taken)
        self._prompted = bool((self._position < self._prompt_length).any())

    def _begin(self, taken: list[tuple[int, Attempt, np.ndarray]]) -> None:
        rows = torch.tensor([row for row, _, _ in taken], device=self.device)
        for state in (self._hidden, self._cells):
            state[:, rows] = 0.0
        self._current[rows] = START
        self._position[rows] = 0
        self._finished[rows] = self._ended[rows] = False
        for name, values in (
            ("_song", [attempt.song for _, attempt, _ in taken]),
            ("_number", [attempt.number for _, attempt, _ in taken]),
            ("_prompt_length", [len(prompt) for _, _, prompt in taken]),
        ):
            getattr(self, name)[rows] = torch.tensor(values, dtype=torch.int64, device=self.device)
        for row, attempt, prompt in taken:
            self._attempts[row] = attempt
            if len(prompt):
                self._text[row, : len(prompt)] = torch.from_numpy(prompt).to(self._text)
        if self._column < _BLOCK:
            self._draw(rows, self._column)

    def _draw(self, rows: torch.Tensor | slice, column: int) -> None:
        """Random numbers for the next characters of ``rows``, from ``column`` to the end of the block."""
        ahead = torch.arange(_BLOCK - column, device=self.device)
        self._uniforms[rows, column:] = uniforms(
            self.seed,
            self._song[rows, None],
            self._number[rows, None],
            self._position[rows, None] + ahead,
        )

    def _fit(self, wanted: int) -> None:
        """Have the smallest power-of-two share of the slots that holds ``wanted`` rows."""
        full = max(MINIMUM_ROWS, self.slots)
        count = MINIMUM_ROWS
        while count < wanted:
            count *= 2
        count = min(count, full)
        if count == len(self._attempts):
            return
        kept = [row for row, attempt in enumerate(self._attempts) if attempt is not None]
        old = {name: getattr(self, name) for name in self._row_tensors}
        attempts, column = [self._attempts[row] for row in kept], self._column
        self._allocate(count)
        self._column = column
        index = torch.tensor(kept, dtype=torch.int64, device=self.device)
        for name, tensor in old.items():
            axis = 1 if name in ("_hidden", "_cells") else 0
            getattr(self, name).narrow(axis, 0, len(kept)).copy_(tensor.index_select(axis, index))
        self._attempts[: len(kept)] = attempts

    _row_tensors = (
        "_hidden",
        "_cells",
        "_current",
        "_text",
        "_position",
        "_prompt_length",
        "_song",
        "_number",
        "_uniforms",
        "_finished",
        "_ended",
    )

    def _allocate(self, rows: int) -> None:
        def integers() -> torch.Tensor:
            return torch.zeros(rows, dtype=torch.int64, device=self.device)

        def flags() -> torch.Tensor:
            return torch.zeros(rows, dtype=torch.bool, device=self.device)

        state = (self._cell.layers, rows, self._cell.hidden_size)
        narrow = torch.uint8 if self._vocabulary.size <= 256 else torch.int32
        self._hidden = torch.zeros(state, device=self.device)
        self._cells = torch.zeros(state, device=self.device)
        self._text = torch.zeros((rows, self.settings.max_length), dtype=narrow, device=self.device)
        self._uniforms = torch.zeros((rows, _BLOCK), device=self.device)
        self._current, self._position, self._prompt_length = integers(), integers(), integers()
        self._song, self._number = integers(), integers()
        self._finished, self._ended = flags(), flags()
        self._attempts = [None] * rows
        self._column = _BLOCK
        self._prompted = False


def sampling_device(settings: SamplingSettings) -> torch.device:
    """The device that ``settings.device`` means here; RequestError if CUDA is asked for and not there."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise RequestError("sampling.device: cuda is asked for, but this machine has no CUDA device; use cpu")
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(settings.device)
