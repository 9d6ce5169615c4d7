"""The character model: embedding → LSTM layers → linear, on request with a pointer and metrical positions.

Characters go in as indices, logits over the vocabulary come out. Dropout stands outside the LSTMs, one mask
for each row of the global batch and each layer, the same at every time step (Gal & Ghahramani 2016; Merity,
Keskar & Socher 2017). Masks are a function of (seed, step, row, layer), never of rank, device or a global
generator, so a batch may be cut among processes in any way.

With ``model.position`` an automaton (``metrical``) says of each character where in the bar and in the section
the tune is then: embeddings of that are added to the character's, and stand beside the LSTM's output. With
``model.pointer`` an attention over the tune so far says which character followed at a place like this, and a
gate mixes that with the vocabulary's softmax (``pointer``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from reelmill import durable
from reelmill.config import parse
from reelmill.corpus.vocabulary import Vocabulary
from reelmill.errors import DamagedError, RequestError
from reelmill.metrical.reading import Reader
from reelmill.pointer import Pointer, Position
from reelmill.randomness import keyed_bits
from reelmill.training.settings import ModelSettings

State = tuple[Tensor, ...]
"""Hidden and cell state of all layers, each [layers, batch, hidden], float32; then, where the model has them,
the reader's counters, and what the pointer remembers. The batch is the second axis of each.
"""

WEIGHTS = "model.safetensors"
SETTINGS = "model.json"
VOCABULARY = "vocabulary.json"

_DROPOUT_STREAM = 0x64726F70  # keeps these draws apart from others keyed by the same seed


class CharLSTM(nn.Module):
    """Next-character logits. ``layers`` are separate one-layer ``nn.LSTM``s, batch first."""

    def __init__(self, settings: ModelSettings, vocabulary: Vocabulary) -> None:
        super().__init__()
        if settings.tie_embedding and settings.embedding_size != settings.hidden_size:
            raise RequestError(
                f"model.tie_embedding needs model.embedding_size ({settings.embedding_size}) equal to "
                f"model.hidden_size ({settings.hidden_size})"
            )
        if settings.tie_embedding and settings.position:
            raise RequestError("model.tie_embedding cannot be with model.position, which widens the output")
        self.settings = settings
        self.reader = Reader(vocabulary, torch.device("cpu")) if settings.position else None
        self.embedding = nn.Embedding(vocabulary.size, settings.embedding_size)
        sizes = [settings.embedding_size] + [settings.hidden_size] * settings.layers
        self.layers = nn.ModuleList(
            nn.LSTM(inputs, outputs, batch_first=True) for inputs, outputs in itertools.pairwise(sizes)
        )
        shown = settings.hidden_size + 2 * settings.position
        self.output = nn.Linear(shown, vocabulary.size)
        if settings.tie_embedding:
            self.output.weight = self.embedding.weight
            nn.init.uniform_(
                self.embedding.weight, -0.1, 0.1
            )  # Merity et al. 2017: unit variance is too much here
        self.position = Position(settings) if settings.position else None
        self.pointer = Pointer(settings, shown) if settings.pointer else None

    def forward(
        self,
        characters: Tensor,
        state: State | None = None,
        masks: Sequence[Tensor] = (),
        places: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Logits [batch, time, vocabulary] (float32) and the state after the last character.

        ``characters`` is int64 [batch, time]; ``state`` is zero if None. ``masks`` are those of
        ``dropout_masks``; without them nothing is dropped, whatever ``train()`` or ``eval()`` say.
        ``places``, int64 [batch, time, 5], are what the reader says of ``characters``, of which it is asked
        without them.
        """
        hidden, beside = self.embedding(characters), None
        counters: tuple[Tensor, ...] = ()
        if self.reader is not None and self.position is not None:
            counters = (self.reader.begin(len(characters)) if state is None else state[2].clone(),)
            if places is None:
                places = self.reader.read(characters.cpu(), *counters).to(characters.device)
            added, beside = self.position(places)
            hidden = hidden + added
        hidden = _dropped(hidden, masks, 0)
        states = []
        for index, lstm in enumerate(self.layers):
            before = None if state is None else (state[0][index : index + 1], state[1][index : index + 1])
            hidden, after = lstm(hidden, before)
            states.append(after)
            hidden = _dropped(hidden, masks, index + 1)
        if beside is not None:
            hidden = torch.cat([hidden, beside.to(hidden.dtype)], dim=-1)
        logits, memory = self.output(hidden).float(), ()
        if self.pointer is not None:
            remembered = None if state is None else state[2 + len(counters) :]
            logits, memory = self.pointer(hidden, logits, characters, places, remembered)
        hiddens, cells = zip(*states, strict=True)
        return logits, (torch.cat(hiddens).float(), torch.cat(cells).float(), *counters, *memory)

    def zero_state(self, batch: int) -> State:
        """The state before the first character of ``batch`` rows."""
        shape = (self.settings.layers, batch, self.settings.hidden_size)
        device = self.embedding.weight.device
        return torch.zeros(shape, device=device), torch.zeros(shape, device=device)


def _dropped(values: Tensor, masks: Sequence[Tensor], place: int) -> Tensor:
    return values * masks[place][:, None, :].to(values.dtype) if masks else values


def dropout_masks(
    settings: ModelSettings, seed: int, step: int, rows: range
) -> list[npt.NDArray[np.float32]]:
    """Masks [rows, features] of 0 and 1 / (1 - dropout): of the embedding, then of each layer's output.

    A function of the seed, the step and the rows' numbers in the global batch, so the same on every device
    and however the batch is cut. A mask holds for all of a row's time. Empty without dropout.
    """
    if settings.dropout == 0:
        return []
    sizes = [settings.embedding_size] + [settings.hidden_size] * settings.layers
    numbers = np.arange(rows.start, rows.stop)[:, None]
    return [
        _mask(keyed_bits(_DROPOUT_STREAM, seed, step, layer, numbers, np.arange(size)), settings.dropout)
        for layer, size in enumerate(sizes)
    ]


def _mask(bits: npt.NDArray[np.uint64], rate: float) -> npt.NDArray[np.float32]:
    kept = (bits >> np.uint64(11)).astype(np.float64) >= rate * 2.0**53
    return kept.astype(np.float32) / np.float32(1 - rate)


@contextlib.contextmanager
def float32_as_written() -> Iterator[None]:
    """Inside, float32 on a GPU has its 24 bits (TF32, cuDNN's default for LSTMs, has 11), and cuDNN repeats
    its sums bit for bit.
    """
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.deterministic, cudnn.allow_tf32, products.allow_tf32
    cudnn.deterministic, cudnn.allow_tf32, products.allow_tf32 = True, False, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.allow_tf32, products.allow_tf32 = before


def new_network(settings: ModelSettings, vocabulary: Vocabulary, seed: int) -> CharLSTM:
    """A network on the CPU with PyTorch's usual initial weights, a function of ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CharLSTM(settings, vocabulary)


@dataclasses.dataclass
class TrainedModel:
    """A network with the vocabulary it speaks: all that sampling and evaluation need."""

    network: CharLSTM
    vocabulary: Vocabulary
    settings: ModelSettings

    def save(self, directory: Path) -> None:
        """Write model.safetensors, model.json and vocabulary.json into an existing ``directory``."""
        save_weights(self.network, directory / WEIGHTS)
        durable.write_json(directory / SETTINGS, dataclasses.asdict(self.settings))
        self.vocabulary.save(directory / VOCABULARY)

    @classmethod
    def load(cls, directory: Path, device: str | torch.device = "cpu") -> TrainedModel:
        """The model in ``directory``, in evaluation mode.

        Raises RequestError if there is no such directory, DamagedError if a file is missing or does not fit
        the others. Nothing in the files is ever executed.
        """
        missing = [name for name in (WEIGHTS, SETTINGS, VOCABULARY) if not (directory / name).is_file()]
        if len(missing) == 3:
            raise RequestError(f"{directory}: no model there; expected a directory with {WEIGHTS}")
        if missing:
            raise DamagedError(f"{directory / missing[0]}: missing")
        values = durable.read_json(directory / SETTINGS)
        try:
            settings = parse(ModelSettings, values, str(directory / SETTINGS))
        except RequestError as error:
            raise DamagedError(str(error)) from None
        vocabulary = Vocabulary.load(directory / VOCABULARY)
        return cls.assemble(settings, vocabulary, directory / WEIGHTS, device)

    @classmethod
    def assemble(
        cls,
        settings: ModelSettings,
        vocabulary: Vocabulary,
        weights: Path,
        device: str | torch.device = "cpu",
    ) -> TrainedModel:
        """A model from its parts, ``weights`` being a safetensors file; raises like ``load``."""
        # Not on the meta device, where initial values import torch._dynamo: a second of every start.
        network = new_network(settings, vocabulary, seed=0)
        load_weights(network, weights, device)
        return cls(network.eval(), vocabulary, settings)


def save_weights(network: CharLSTM, path: Path) -> None:
    """Write the weights to ``path`` as safetensors; tied weights are written once."""
    path.write_bytes(save(weights_of(network)))  # its own writer hides what a disk says


def weights_of(network: CharLSTM) -> dict[str, Tensor]:
    """The distinct weights by name, detached, not copied."""
    weights = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    if network.settings.tie_embedding:
        del weights["output.weight"]
    return weights


def load_weights(network: CharLSTM, path: Path, device: str | torch.device = "cpu") -> None:
    """Put the weights in ``path`` into ``network`` on ``device``; DamagedError if they don't fit."""
    if not path.is_file():
        raise DamagedError(f"{path}: missing")
    try:
        weights = load_file(path, device=str(device))
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedError(f"{path}: not readable as safetensors ({error})") from None
    expected = {name: tuple(value.shape) for name, value in weights_of(network).items()}
    seen = {name: tuple(value.shape) for name, value in weights.items()}
    wrong = sorted(name for name in expected.keys() | seen.keys() if expected.get(name) != seen.get(name))
    if wrong:
        name = wrong[0]
        raise DamagedError(
            f"{path}: {name} is {seen.get(name, 'missing')}, "
            f"the model's settings and vocabulary want {expected.get(name, 'none')}"
        )
    if any(value.dtype != torch.float32 for value in weights.values()):
        raise DamagedError(f"{path}: its weights are not float32")
    if network.settings.tie_embedding:
        weights["output.weight"] = weights["embedding.weight"]
    network.load_state_dict(weights, assign=True)
    if network.settings.tie_embedding:
        network.output.weight = network.embedding.weight
    for lstm in network.layers:
        assert isinstance(lstm, nn.LSTM)
        lstm.flatten_parameters()  # cuDNN wants a layer's weights in one piece of memory
