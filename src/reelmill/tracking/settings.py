"""Settings of metrics and Comet."""

from dataclasses import dataclass
from typing import Annotated, Literal

from reelmill.settings import COMPUTE, STRICT


@dataclass(frozen=True, kw_only=True)
class TrackingSettings:
    """Metrics always go to metrics.jsonl; ``comet`` says whether they go to Comet as well."""

    comet: Annotated[bool, COMPUTE] = True
    project: Annotated[str, COMPUTE] = "reelmill"
    workspace: Annotated[str, COMPUTE] = ""
    online: Annotated[bool | Literal["auto"], COMPUTE] = "auto"  # auto: where a Comet key is configured

    __pydantic_config__ = STRICT
