"""What a settings dataclass is made of.

Each room declares its own settings as a frozen dataclass whose fields carry their bounds
(``Annotated[float, Field(gt=0)]``). A field marked ``COMPUTE`` only says how a result is computed (how many
processes, which directory); every other field changes what the result is, so a run or a plan refuses to go
on when it differs.
"""

import typing

from pydantic import ConfigDict

COMPUTE = "reelmill: only how it is computed"

STRICT = ConfigDict(extra="forbid", strict=True)
"""For ``__pydantic_config__``: unknown keys are refused and ``"3"`` is not a number."""


def compute_keys(settings: type) -> set[str]:
    """The fields of a settings dataclass that are marked ``COMPUTE``."""
    hints = typing.get_type_hints(settings, include_extras=True)
    return {key for key, hint in hints.items() if COMPUTE in getattr(hint, "__metadata__", ())}
