"""Settings of a songs directory."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from reelmill.settings import COMPUTE, STRICT


@dataclass(frozen=True, kw_only=True)
class SongsSettings:
    """What makes an attempt a song, and how songs are packed."""

    songs_per_shard: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    max_attempts: Annotated[int, Field(ge=1, le=10_000)] = 20
    require: Literal["none", "headers", "midi", "bars", "form"] = "midi"
    workers: Annotated[int, COMPUTE, Field(ge=0)] = 0  # that sample and write; 0: one a processor, 1 on CUDA
    # Song i begins with prompts[i mod len], a text or {title, rhythm, meter, key}; empty: with nothing.
    prompts: list[str | dict[str, str]] = field(default_factory=list)

    __pydantic_config__ = STRICT
