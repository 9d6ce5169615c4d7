"""What jobs need beside what Slurm gives: files that nodes see, programs, a number format their device has.

Looked at before anything is queued; what would be found missing at night is refused now, with the fix.
"""

from __future__ import annotations

from pathlib import Path

from reelmill.cache import cache_directory
from reelmill.cluster.preflight.disks import disk_problem, disks_here
from reelmill.cluster.settings import ClusterSettings
from reelmill.config import Config
from reelmill.errors import RequestError


def refuse_unmakeable(config: Config, audio: bool, settings: ClusterSettings) -> None:
    """RequestError if what makes MIDI, and sound if there is to be ``audio``, is not on this machine.

    Not looked for where nodes start another Python (a container, say).
    """
    from reelmill.audio import abc2midi
    from reelmill.audio.render import renderer

    if not settings.python:
        abc2midi.version()
        if audio:
            renderer(config.audio)


def refuse_unseen(config: Config, settings: ClusterSettings, corpus: bool, audio: bool) -> None:
    """RequestError if nodes do not see the ``corpus``, or the soundfont where there is to be ``audio``."""
    from reelmill.corpus.build import corpus_directory

    places: dict[str, Path] = {}
    if corpus:
        places["corpus (corpus.directory, or REELMILL_CACHE)"] = corpus_directory(config.corpus)
    if audio and not settings.python:
        places |= _soundfont_place(config)
    disks = disks_here()
    problems = {what: disk_problem(place, settings.shared_disks, disks) for what, place in places.items()}
    if any(problems.values()):
        raise RequestError("\n".join(f"{what}: {problem}" for what, problem in problems.items() if problem))


def _soundfont_place(config: Config) -> dict[str, Path]:
    from reelmill.audio.soundfont import soundfont

    path = soundfont(config.audio)
    ours = config.audio.soundfont or path.is_relative_to(cache_directory())
    return {"soundfont (audio.soundfont, or REELMILL_CACHE)": path} if ours else {}  # else each node's own
