"""Settings of the model and of its training."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from reelmill.settings import COMPUTE, STRICT

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Embedding → LSTM → linear. The defaults are the 6.S191 lab's.

    With ``pointer`` the model may also copy: it looks back over the tune. With ``position`` it is told where
    in the bar and the section it is. Both read whole tunes (``training.batches: tunes``).
    """

    embedding_size: Count = 256
    hidden_size: Count = 1024
    layers: Count = 1
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    tie_embedding: bool = False  # output weights = embedding weights; needs embedding_size == hidden_size
    pointer: Annotated[int, Field(ge=0, le=1024)] = 0  # width of the attention over the tune so far; 0: none
    pointer_window: Annotated[int, Field(ge=1, le=2**16)] = 512  # characters that it looks back
    position: Annotated[int, Field(ge=0, le=1024)] = 0  # width of an embedding of the metrical place; 0: none

    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The recipe. ``batch_size`` is the global one: the rows of all processes together.

    ``accumulation`` cuts the global batch into so many micro-batches, to save memory; the processes share
    them, and each has at least one. With ``exact`` weights are the same bit for bit at every number of
    processes up to the number of micro-batches (8 if ``accumulation`` is 1), because gradients are added up
    as integers; on a CPU each process then uses one thread, as a small product's sums depend on how many
    there are. Without it weights are the same at the same number of processes and threads.
    """

    steps: Count = 6000
    batch_size: Count = 32  # rows of a step, of all processes together
    sequence_length: Count = 200  # characters; of a tune in ``tunes``, the most that are read
    # Random windows; or every tune once an epoch: one behind the other with the state carried on, or each by
    # itself from its beginning, beside others of like length.
    batches: Literal["random", "stream", "tunes"] = "random"
    transpose: bool = False  # train on transposed copies too
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_norm: Annotated[float, Field(ge=0)] = 0.0  # 0: no clipping
    accumulation: Count = 1  # micro-batches a step, of all processes together
    exact: bool = False  # the same weights at any number of processes
    precision: Literal["no", "bf16", "fp16"] = "no"  # no: float32, without TF32; in validation, too
    device: Annotated[Literal["auto", "cpu", "cuda"], COMPUTE] = "auto"  # auto: a GPU where torch sees one
    init_from: str = ""  # a run (its best checkpoint) or a model's folder whose weights to begin with
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    checkpoint_every: Annotated[int, COMPUTE, Field(ge=1)] = 100
    keep_checkpoints: Annotated[int, COMPUTE, Field(ge=1)] = 3
    evaluate_every: Annotated[int, Field(ge=0)] = 100  # 0: never
    evaluation_tunes: Annotated[int, Field(ge=0)] = 1000  # validation tunes scored each time; 0: all
    patience: Annotated[int, Field(ge=0)] = 0  # evaluations without a better one before stopping; 0: go on
    log_every: Annotated[int, COMPUTE, Field(ge=1)] = 10
    sample_every: Annotated[int, COMPUTE, Field(ge=0)] = 0  # steps between sample songs for Comet; 0: never

    __pydantic_config__ = STRICT
