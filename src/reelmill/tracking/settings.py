"""Settings of metrics and Comet."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from reelmill.settings import COMPUTE, STRICT


@dataclass(frozen=True, kw_only=True)
class TrackingSettings:
    """Metrics always go to metrics.jsonl; ``comet`` says whether they go to Comet as well.

    ``also``: other trackers by Accelerate's names (tensorboard, wandb, mlflow …), for training.
    """

    comet: Annotated[bool, COMPUTE] = True
    project: Annotated[str, COMPUTE] = "reelmill"
    workspace: Annotated[str, COMPUTE] = ""
    also: Annotated[list[str], COMPUTE] = field(default_factory=list)
    online: Annotated[bool | Literal["auto"], COMPUTE] = "auto"  # auto: where a Comet key is configured

    __pydantic_config__ = STRICT
