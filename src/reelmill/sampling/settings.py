"""Settings of sampling: which distribution characters are drawn from, and how many songs at once."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from reelmill.settings import COMPUTE, STRICT

EDITION = "5"
"""Raised whenever an attempt becomes another text, or is validated otherwise, than in the edition before."""


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """Warpers are applied in the order temperature, top-k, top-p, min-p."""

    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0  # 0: off
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0  # 1: off
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0  # 0: off
    max_length: Annotated[int, Field(ge=1, le=1_000_000)] = 3000  # characters; a longer song is not valid
    # Of the recurrent matrix products. Songs in int8 are the same on every processor and device; those in
    # float32 and bfloat16 follow the processor, its libraries and the device.
    precision: Literal["int8", "float32", "bfloat16"] = "int8"
    slots: Annotated[int, COMPUTE, Field(ge=0, le=65536)] = 0  # sampled at once; 0: 256, or 4096 on CUDA
    device: Annotated[Literal["auto", "cpu", "cuda"], COMPUTE] = "auto"

    __pydantic_config__ = STRICT
