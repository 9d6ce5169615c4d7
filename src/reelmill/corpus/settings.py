"""Settings of a corpus: where tunes come from and what is kept of them."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from reelmill.resources import processors
from reelmill.settings import COMPUTE, STRICT

_WORTH_A_PROCESS = 1000  # tunes, which take two seconds


@dataclass(frozen=True, kw_only=True)
class CorpusSettings:
    """``source`` is a named corpus, a path, a glob, a hub id, or a list of them."""

    source: str | list[str] = "irish"
    text_column: str = ""  # of tables and hub data sets; empty: guessed among text, abc, abc notation
    # The header fields that are kept; the others are dropped.
    fields: list[str] = field(default_factory=lambda: ["X", "T", "R", "M", "L", "Q", "K"])
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.85  # bodies at least this similar form one cluster
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    split_seed: Annotated[int, Field(ge=0)] = 0
    max_tune_length: Annotated[int, Field(ge=1)] = 20_000  # characters; longer tunes are dropped and counted
    directory: Annotated[str, COMPUTE] = ""  # where the built corpus lies; empty: in the cache
    num_proc: Annotated[int, COMPUTE, Field(ge=0)] = 0  # processes that build it; 0: one a processor

    __pydantic_config__ = STRICT

    def processes(self, tunes: int) -> int:
        """How many processes look at so many tunes: few tunes are done before a process has begun."""
        return self.num_proc or min(processors(), 1 + tunes // _WORTH_A_PROCESS)
