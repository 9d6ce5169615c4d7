"""Where tunes and sound come from, in words, for the cards of models and of songs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reelmill.audio.settings import AudioSettings
from reelmill.audio.soundfont import NAME, SHA256
from reelmill.corpus.named import NAMES

_SOUNDFONT = (
    f"{NAME} by Tim Brechbill, from pretty_midi's wheel. The wheel (MIT) says nothing about its own licence; "
    "Debian's timgm6mb-soundfont, an edition of the same font, states GPL-2"
)


def corpora(source: str | Sequence[str]) -> list[str]:
    """A phrase for each source of a corpus: what it is, and its licence where that is known."""
    return [_corpus(name) for name in ([source] if isinstance(source, str) else source)]


def soundfont_text(settings: AudioSettings, sha256: str = "") -> str:
    """The soundfont of ``settings``, or the one that has ``sha256``, and its licence where that is known."""
    if sha256 == SHA256 or not (sha256 or settings.soundfont):
        return _SOUNDFONT
    name = Path(settings.soundfont).name or NAME
    return f"{name}{f' (SHA-256 {sha256[:16]}…)' if sha256 else ''}, under the licence of whoever made it"


def _corpus(name: str) -> str:
    if name in NAMES:
        return f"`{name}`: {NAMES[name].description}; {NAMES[name].licence}"
    shown = Path(name).name if Path(name).is_absolute() or name.startswith((".", "~")) else name
    return f"`{shown}`, under its own licence"
