"""Settings of the model and of its training."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from reelmill.settings import COMPUTE, STRICT

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Embedding → LSTM → linear. The defaults are the 6.S191 lab's."""

    embedding_size: Count = 256
    hidden_size: Count = 1024
    layers: Count = 1
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    tie_embedding: bool = False  # output weights = embedding weights; needs embedding_size == hidden_size

    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The recipe. ``batch_size`` is the global one, whatever the number of processes.

    ``accumulation`` cuts each global batch into that many fixed micro-batches, which the processes share.
    Their gradients are summed in a fixed order, so the weights are the same bit for bit at every world size
    up to ``accumulation``. More processes cut the micro-batches further; then weights agree to rounding.
    """

    steps: Count = 6000
    batch_size: Count = 32
    sequence_length: Count = 200  # characters
    batches: Literal["random", "stream"] = "random"  # windows; or every tune once an epoch, state carried on
    transpose: bool = False  # train on transposed copies too
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_norm: Annotated[float, Field(ge=0)] = 0.0  # 0: no clipping
    accumulation: Count = 1  # micro-batches a step
    precision: Literal["no", "bf16", "fp16"] = "no"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    checkpoint_every: Annotated[int, COMPUTE, Field(ge=1)] = 100
    keep_checkpoints: Annotated[int, COMPUTE, Field(ge=1)] = 3
    evaluate_every: Annotated[int, Field(ge=0)] = 100  # 0: never
    evaluation_tunes: Annotated[int, Field(ge=0)] = 1000  # validation tunes scored each time; 0: all
    patience: Annotated[int, Field(ge=0)] = 0  # evaluations without a better one before stopping; 0: go on
    log_every: Annotated[int, COMPUTE, Field(ge=1)] = 10
    sample_every: Annotated[int, COMPUTE, Field(ge=0)] = 0  # steps between sample songs for Comet; 0: never

    __pydantic_config__ = STRICT
