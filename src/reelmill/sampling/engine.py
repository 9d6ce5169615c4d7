"""The sampling engine: many songs at once, each with its own random stream.

``submit`` attempts, ``step`` until some are finished, submit more. A slot holds one attempt; all slots go on
by one character together, and a finished slot is free for the next attempt at once. What an attempt becomes
depends on (model, settings, seed, song, attempt, prompt), not on the slot, the other slots or their number:
every operation works on rows alone (``products``), random numbers are keyed by position (``streams``), and
rows are padded to a number that keeps the libraries' kernels the same.

Between two looks at what has finished lies a stride of characters. On CUDA it is replayed as a graph
(``replay``), always with the same rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from reelmill.corpus.vocabulary import END, START
from reelmill.errors import RequestError
from reelmill.model import TrainedModel
from reelmill.sampling import kernels
from reelmill.sampling.cell import SamplingCell
from reelmill.sampling.kernels.choice import MOST_CHARACTERS, choose
from reelmill.sampling.kernels.streams import blocks
from reelmill.sampling.products import padded_rows
from reelmill.sampling.replay import replayable
from reelmill.sampling.rows import Rows
from reelmill.sampling.settings import SamplingSettings

_BLOCK = 32  # characters for which random numbers are drawn at once
# Characters between two looks at what has finished. Looks cost more than the few characters that a finished
# row goes on for; on CUDA the device stands still at each.
_STRIDE = {"cpu": 4, "cuda": 16}
_SLOTS = {"cpu": 256, "cuda": 4096}  # where the settings leave them open


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
        if model.vocabulary.size > MOST_CHARACTERS:
            raise RequestError(
                f"a vocabulary of {model.vocabulary.size} characters: the most is {MOST_CHARACTERS}"
            )
        self.settings = settings
        self.seed = seed
        self.device = sampling_device(settings)
        self.slots = slots(settings, self.device)
        self.characters = 0  # sampled so far in attempts that are finished
        self._cell = SamplingCell(model, settings.precision, self.device)
        self._vocabulary = model.vocabulary
        self._static = not kernels.by_loops(self.device)  # whether a stride may depend on tensors only
        self._stride = _STRIDE["cuda" if self._static else "cpu"]
        self._block = self._stride if self._static else _BLOCK
        self._waiting: deque[tuple[Attempt, np.ndarray]] = deque()
        self._attempts: list[Attempt | None] = []  # of each row
        self._placed = 0  # those of them that are attempts
        self._rows = self._idle(0)
        self._column = self._block  # of the random numbers that come next
        self._prompted = False  # whether any row may still be reading its prompt
        self._go_on: Callable[[], None] = self._advance_stride

    @property
    def active(self) -> int:
        """Attempts submitted and not finished."""
        return len(self._waiting) + self._placed

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
            self._go_on()
            if bool(self._rows.finished.any()) and (done := self._take()):
                return done

    def _advance_stride(self) -> None:
        for _ in range(self._stride):
            self._advance()

    def _advance(self) -> None:
        rows = self._rows
        logits = self._cell.step(rows.current, rows.hidden, rows.cells)
        if self._column == self._block:
            self._draw(slice(None), 0)
            self._column = 0
        chosen = choose(logits, rows.uniforms[:, self._column], self.settings)
        self._column += 1
        place = rows.position.clamp(max=self.settings.max_length - 1)
        if self._prompted:
            given = rows.text.gather(1, place[:, None]).squeeze(1).to(torch.int64)
            chosen = torch.where(rows.position < rows.prompt_length, given, chosen)
        # A finished row goes on in a stride with results nobody reads; its text and length stay as they are.
        running = ~rows.finished
        ended = running & (chosen == END)
        written = torch.where(
            running & ~ended, chosen, rows.text.gather(1, place[:, None]).squeeze(1).to(torch.int64)
        )
        rows.text.scatter_(1, place[:, None], written[:, None].to(rows.text.dtype))
        rows.position += running & ~ended
        rows.ended |= ended
        rows.finished |= ended | (rows.position >= self.settings.max_length)
        rows.current.copy_(chosen)

    def _take(self) -> list[Sampled]:
        rows = self._rows
        at = torch.nonzero(rows.finished).squeeze(1)
        texts, lengths = rows.text[at].cpu().numpy(), rows.position[at].tolist()
        ended, done = rows.ended[at].tolist(), []
        for row, text, length, end in zip(at.tolist(), texts, lengths, ended, strict=True):
            attempt = self._attempts[row]
            if attempt is None:
                continue
            self._attempts[row] = None
            self._placed -= 1
            self.characters += length
            done.append(Sampled(attempt, self._vocabulary.decode(text[:length]), end))
        # A free row idles as a song that nobody takes.
        rows.finished[at] = False
        rows.ended[at] = False
        rows.position[at] = 0
        return done

    def _place(self) -> None:
        """Give waiting attempts a row, with as few rows in all as hold them."""
        self._fit(min(self.active, self.slots))
        free = [row for row, attempt in enumerate(self._attempts) if attempt is None]
        taken = [(row, *self._waiting.popleft()) for row in free[: len(self._waiting)]]
        if taken:
            self._begin(taken)
        self._prompted = self._static or bool((self._rows.position < self._rows.prompt_length).any())

    def _begin(self, taken: list[tuple[int, Attempt, np.ndarray]]) -> None:
        rows = self._rows
        at = self._integers([row for row, _, _ in taken])
        rows.hidden[:, at] = 0.0
        rows.cells[:, at] = 0.0
        rows.current[at] = START
        rows.position[at] = 0
        rows.finished[at] = False
        rows.ended[at] = False
        rows.song[at] = self._integers([attempt.song for _, attempt, _ in taken])
        rows.number[at] = self._integers([attempt.number for _, attempt, _ in taken])
        rows.prompt_length[at] = self._integers([len(prompt) for _, _, prompt in taken])
        for row, attempt, prompt in taken:
            self._attempts[row] = attempt
            self._placed += 1
            if len(prompt):
                rows.text[row, : len(prompt)] = torch.from_numpy(prompt).to(rows.text)
        if self._column < self._block:
            self._draw(at, self._column)

    def _integers(self, values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self.device)

    def _draw(self, at: torch.Tensor | slice, column: int) -> None:
        """Random numbers for the next characters of the rows ``at``, from ``column`` to the block's end."""
        rows = self._rows
        rows.uniforms[at, column:] = blocks(
            self.seed, rows.song[at], rows.number[at], rows.position[at], self._block - column
        )

    def _fit(self, wanted: int) -> None:
        """Have the smallest power-of-two number of rows, up to the slots, that holds ``wanted``."""
        if not self._static:
            wanted = min(1 << (wanted - 1).bit_length(), self.slots)
        count = padded_rows(self.slots if self._static else wanted, self.settings.precision, self.device)
        if count == len(self._attempts):
            return
        kept = [row for row, attempt in enumerate(self._attempts) if attempt is not None]
        rows = self._idle(count)
        rows.take_over(self._rows, kept)
        self._rows = rows
        self._attempts = [self._attempts[row] for row in kept] + [None] * (count - len(kept))
        if self._static:
            self._prompted = True
            self._go_on = replayable(self._advance_stride, self.device)

    def _idle(self, count: int) -> Rows:
        return Rows.idle(
            count,
            layers=self._cell.layers,
            hidden_size=self._cell.hidden_size,
            max_length=self.settings.max_length,
            block=self._block,
            vocabulary_size=self._vocabulary.size,
            device=self.device,
        )


def slots(settings: SamplingSettings, device: torch.device) -> int:
    """Attempts sampled at once on ``device``."""
    return settings.slots or _SLOTS[device.type]


def emulates(settings: SamplingSettings) -> bool:
    """Whether this machine would sample in bfloat16 without having instructions for it."""
    on_cpu = settings.precision == "bfloat16" and sampling_device(settings).type == "cpu"
    return on_cpu and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def sampling_device(settings: SamplingSettings) -> torch.device:
    """The device that ``settings.device`` means here; RequestError if CUDA is asked for and not there."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise RequestError("sampling.device: cuda is asked for, but this machine has no CUDA device; use cpu")
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(settings.device)
