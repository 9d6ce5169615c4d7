"""reelmill: train a character-level LSTM on ABC music and mill songs by the million.

The names below are the library in short; ``reelmill.cli`` is the command line over the same functions. They
are imported when they are first used, so that ``import reelmill`` costs nothing.
"""

from importlib import import_module
from typing import Any

_EXPORTS = {
    "load_config": ("reelmill.config", "load"),
    "load_corpus": ("reelmill.python", "load_corpus"),
    "load_model": ("reelmill.python", "load_model"),
    "train": ("reelmill.python", "train"),
    "sample_songs": ("reelmill.python", "sample_songs"),
    "render_abc": ("reelmill.python", "render_abc"),
    "open_songs": ("reelmill.songs.store.open", "open_songs"),
}

__all__ = sorted(_EXPORTS)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'reelmill' has no attribute {name!r}")
    module, attribute = _EXPORTS[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
