"""The sampling engine: many songs at once, each with its own random stream.

``submit`` attempts, ``step`` until some are finished, submit more. A row holds one attempt; all rows go on by
one character together, and a finished row is given the next attempt. What an attempt becomes depends on
(model, settings, seed, song, attempt, prompt), not on the row, the other rows or their number: every
operation works on rows alone (``products``), random numbers are keyed by position (``streams``), and rows are
padded to a number that keeps the libraries' kernels the same.

A stride gives free rows the attempts that wait, samples some characters, and collects what is finished. On a
GPU all of it is one graph (``replay``): the device has the waiting attempts in a ring of its own, and goes on
with the next stride while the host fetches what the last one finished.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from reelmill.corpus.vocabulary import END, START
from reelmill.errors import RequestError
from reelmill.model import TrainedModel
from reelmill.sampling import kernels
from reelmill.sampling.block import Block
from reelmill.sampling.cell import SamplingCell
from reelmill.sampling.kernels.choice import MOST_CHARACTERS, choose
from reelmill.sampling.kernels.streams import blocks
from reelmill.sampling.products import padded_rows
from reelmill.sampling.replay import Fetching, replayable, sent
from reelmill.sampling.rows import Queue, Rows, first_of
from reelmill.sampling.settings import SamplingSettings

_BLOCK = 32  # characters for which random numbers are drawn at once
_STRIDE = {"cpu": 4, "cuda": 32}  # characters; a finished row idles until the stride's end
_SLOTS = {"cpu": 256, "cuda": 4096}  # where the settings leave them open
_AHEAD = 4  # on a GPU, so many slots to an attempt that waits there for a row, or is fetched from there
_FEWEST = 256  # rows on a GPU: with less a character takes no less time
_PROMPTS = 1024  # whose numbers are remembered

Stride = Callable[[], list[torch.Tensor]]
"""Goes on by some characters; what it has collected (``Engine._take`` has the order)."""


@dataclass(frozen=True)
class Attempt:
    """One try at a song: its number, which try it is, and the text it begins with."""

    song: int
    number: int = 0
    prompt: str = ""


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
        self.active = 0  # attempts submitted and not finished
        self._cell = SamplingCell(model, settings.precision, self.device)
        self.vocabulary = model.vocabulary
        self._prompt = functools.lru_cache(_PROMPTS)(self._encoded)
        self._static = not kernels.by_loops(self.device)  # whether a stride may depend on tensors only
        self._stride = _STRIDE["cuda" if self._static else "cpu"]
        self._block = self._stride if self._static else _BLOCK
        self._most = self.slots + (self.slots // _AHEAD if self._static else 0)  # attempts at once
        self._waiting: deque[tuple[Attempt, NDArray[np.int64]]] = deque()
        self._characters = torch.uint8 if model.vocabulary.size <= 256 else torch.int32
        self._queue = Queue.empty(self._most, settings.max_length, self._characters, self.device)
        self._put = self._begun = (
            0  # attempts that were put into the queue; of them, those known to have a row
        )
        self._longest = 0  # prompt so far, rounded up: a GPU needs a graph for each
        self._rows = self._idle(0)
        self._prepared: dict[tuple[int, int], tuple[Rows, Stride]] = {}  # by rows and longest prompt
        self._go_on: Stride = self._advance_stride
        self._column = self._block  # of the random numbers that come next
        self._prompted = False  # whether any row may still be reading its prompt
        self._fetching = Fetching(self.device)
        self._coming: deque[Callable[[], list[torch.Tensor]]] = deque()  # what strides have collected

    @property
    def free(self) -> int:
        """How many more attempts can be sampled at once."""
        return max(0, self._most - self.active)

    def submit(self, attempt: Attempt) -> None:
        """Queue an attempt. RequestError if its prompt cannot be one for this model."""
        prompt = self._prompt(attempt.prompt)
        if len(prompt) > self._longest:
            self._longest = min(1 << (len(prompt) - 1).bit_length(), self.settings.max_length)
        self._waiting.append((attempt, prompt))
        self.active += 1

    @torch.inference_mode()
    def step(self) -> Block:
        """Go on until some attempt is finished; those that are. An empty block if none is active.

        Raises RequestError if the model gives logits that are no numbers.
        """
        while self.active:
            self._fit()
            self._send()
            self._coming.append(self._fetching.begin(self._go_on()))
            # A GPU has the next stride to do while the last one's attempts are on their way.
            if len(self._coming) > (1 if self._static else 0):
                block = self._take(*self._coming.popleft()())
                if len(block):
                    return block
        nothing = torch.zeros(4, 0, dtype=torch.int64)
        return self._take(torch.tensor([0, self._begun, 0]), nothing, nothing[0][:, None])

    def _encoded(self, prompt: str) -> NDArray[np.int64]:
        try:
            numbers = self.vocabulary.encode(prompt, unknown="error")
        except ValueError as error:
            raise RequestError(f"prompt {prompt!r}: {error}") from None
        if len(numbers) >= self.settings.max_length:
            raise RequestError(
                f"prompt of {len(numbers)} characters: sampling.max_length is {self.settings.max_length}"
            )
        return numbers

    def _send(self) -> None:
        """Put waiting attempts into the device's queue, as many as have a place there."""
        count = min(len(self._waiting), len(self._queue) - (self._put - self._begun))
        if not count:
            return
        taken = [self._waiting.popleft() for _ in range(count)]
        numbers = [[attempt.song, attempt.number, len(prompt)] for attempt, prompt in taken]
        places = (np.arange(self._put, self._put + count) % len(self._queue))[None]
        table = torch.from_numpy(np.concatenate([places, np.array(numbers, dtype=np.int64).T]))
        at, *columns = sent(table, self.device).unbind()
        queue = self._queue
        for mine, column in zip((queue.song, queue.number, queue.prompt_length), columns, strict=True):
            mine.index_copy_(0, at, column)
        longest = max(len(prompt) for _, prompt in taken)
        if longest:
            text = torch.zeros(count, longest, dtype=self._characters)
            for line, (_, prompt) in zip(text, taken, strict=True):
                line[: len(prompt)] = torch.from_numpy(prompt)
            queue.text[:, :longest].index_copy_(0, at, sent(text, self.device))
        queue.submitted += count
        self._put += count

    def _advance_stride(self) -> list[torch.Tensor]:
        """Begin what waits, sample, and collect what is finished (``_take`` has the order)."""
        self._begin()
        reading = self._rows.position < self._rows.prompt_length
        self._prompted = self._longest > 0 and (self._static or bool(reading.any()))
        for _ in range(self._stride):
            logits = self._advance()
        return self._collect(logits)

    def _begin(self) -> None:
        """Give free rows the attempts at the front of the queue."""
        rows, queue = self._rows, self._queue
        free = ~(rows.running | rows.done)
        entry = queue.begun + torch.cumsum(free, 0) - 1
        takes = free & (entry < queue.submitted)
        at: torch.Tensor | slice = slice(None)
        if not self._static:
            at = torch.nonzero(takes).squeeze(1)
            if not len(at):
                return
            takes, entry = takes[at], entry[at]
        queue.begun += takes.sum()
        entry = entry % len(queue)

        def begin(mine: torch.Tensor, value: torch.Tensor | int) -> None:
            mine[at] = torch.where(takes, value, mine[at])

        begin(rows.song, queue.song[entry])
        begin(rows.number, queue.number[entry])
        begin(rows.prompt_length, queue.prompt_length[entry])
        begin(rows.current, START)
        begin(rows.position, 0)
        if self._longest:
            text, some = rows.text[:, : self._longest], queue.text[:, : self._longest][entry]
            text[at] = torch.where(takes[:, None], some, text[at])
        for state in (rows.hidden, rows.cells):
            state[:, at] = state[:, at].masked_fill(takes[:, None], 0.0)
        rows.running[at] |= takes
        rows.ended[at] &= ~takes
        if self._column < self._block:
            self._draw(at, self._column)

    def _advance(self) -> torch.Tensor:
        """One character for all rows; the logits."""
        rows = self._rows
        logits = self._cell.step(rows.current, rows.hidden, rows.cells, rows)
        if self._column == self._block:
            self._draw(slice(None), 0)
            self._column = 0
        chosen = choose(logits, rows.uniforms[:, self._column], self.settings)
        self._column += 1
        place = rows.position.clamp(max=self.settings.max_length - 1)[:, None]
        here = rows.text.gather(1, place).squeeze(1).to(torch.int64)
        if self._prompted:
            chosen = torch.where(rows.position < rows.prompt_length, here, chosen)
        # A finished row goes on in a stride with results nobody reads; its text and length stay as they are.
        ended = rows.running & (chosen == END)
        written = rows.running & ~ended
        rows.text.scatter_(1, place, torch.where(written, chosen, here)[:, None].to(rows.text.dtype))
        rows.position += written
        finished = ended | (written & (rows.position >= self.settings.max_length))
        rows.ended |= ended
        rows.done |= finished
        rows.running &= ~finished
        rows.current.copy_(chosen)
        return logits

    def _collect(self, logits: torch.Tensor) -> list[torch.Tensor]:
        """Free finished rows, on a GPU a part of all at most; what they became."""
        rows = self._rows
        count = -(-len(rows) // _AHEAD) if self._static else int(rows.done.sum())
        at = first_of(rows.done, count)
        # A state that is no number may still give logits that are, once it is rounded to few levels.
        wrong = logits.sum().isnan() | rows.hidden.sum().isnan()
        found = rows.done[at].sum()
        state = torch.stack([found, self._queue.begun[0], wrong.to(torch.int64)])
        entries = torch.stack(
            [rows.song[at], rows.number[at], rows.position[at], rows.ended[at].to(torch.int64)]
        )
        rows.done.index_fill_(0, at, False)
        return [state, entries, rows.text.index_select(0, at)]

    def _take(self, state: torch.Tensor, entries: torch.Tensor, text: torch.Tensor) -> Block:
        """What was collected, on the CPU now, as a block."""
        count, self._begun, wrong = state.tolist()
        if wrong:
            raise RequestError(
                "the model's logits are no numbers (nan): its weights are damaged, or its training diverged; "
                "take an earlier checkpoint"
            )
        songs, attempts, lengths, ended = entries[:, :count].numpy()
        longest = int(lengths.max(initial=0))
        self.active -= count
        self.characters += int(lengths.sum())
        return Block(songs, attempts, lengths, ended.astype(bool), text[:count, :longest].numpy())

    def _draw(self, at: torch.Tensor | slice, column: int) -> None:
        """Random numbers for the next characters of the rows ``at``, from ``column`` to the block's end."""
        rows = self._rows
        rows.uniforms[at, column:] = blocks(
            self.seed, rows.song[at], rows.number[at], rows.position[at], self._block - column
        )

    def _fit(self) -> None:
        """Have the smallest power-of-two number of rows, up to the slots, that holds what is active."""
        wanted = max(self.active, _FEWEST if self._static else 1)
        wanted = min(1 << (wanted - 1).bit_length(), self.slots)
        count = padded_rows(wanted, self.settings.precision, self.device)
        key = count, self._longest if self._static else 0
        if key not in self._prepared:
            self._prepared[key] = self._prepare(count)
        rows, self._go_on = self._prepared[key]
        if rows is not self._rows:
            rows.take_over(self._rows)
            self._rows = rows

    def _prepare(self, count: int) -> tuple[Rows, Stride]:
        """So many rows, all of them idle, and the stride for them."""
        rows = self._idle(count)
        if not self._static:
            return rows, self._advance_stride
        # Capturing runs strides. With idle rows and nothing to begin, they do nothing.
        now, self._rows = self._rows, rows
        submitted = self._queue.submitted.clone()
        self._queue.submitted.copy_(self._queue.begun)
        collected = [torch.zeros_like(each) for each in self._advance_stride()]

        def stride() -> None:
            for mine, found in zip(collected, self._advance_stride(), strict=True):
                mine.copy_(found)

        replay = replayable(stride, self.device)
        self._queue.submitted.copy_(submitted)
        self._rows = now

        def go_on() -> list[torch.Tensor]:
            replay()
            return collected

        return rows, go_on

    def _idle(self, count: int) -> Rows:
        return Rows.idle(
            count,
            layers=self._cell.layers,
            hidden_size=self._cell.hidden_size,
            counters=self._cell.counters,
            window=min(self._cell.window, self.settings.max_length),
            width=self._cell.width,
            keys=self._cell.keys,
            max_length=self.settings.max_length,
            block=self._block,
            characters=self._characters,
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
