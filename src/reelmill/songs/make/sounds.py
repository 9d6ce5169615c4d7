"""The sound of stored songs, one after the other, in this process.

A synthesizer is native code, and a song may crash it, and with it the worker. Who comes next finds the
unfinished audio tar. It then renders that shard's songs once in a process of their own before it renders them
here; one that crashes that process twice has no sound, and says so. That is a property of the song. A process
that the machine ends (out of memory, a time-out) is a fault of the machine.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection

from reelmill.audio.process import ToolError
from reelmill.audio.render import Renderer, renderer
from reelmill.audio.settings import AudioSettings
from reelmill.songs.store.song import Song
from reelmill.songs.store.sound import NoSound, Sound, play, record

_SECONDS = 300.0  # rendering one song that takes longer is stuck
_BY_MACHINE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_CRASHES = 2


class Sounds:
    """Renders with one synthesizer, loaded when it is first needed."""

    def __init__(self, settings: AudioSettings) -> None:
        self.settings = settings
        self._crashing: dict[int, str] = {}
        self._renderer: Renderer | None = None

    def record(self, song: Song) -> Sound:
        """The sound of a song, or why it has none."""
        if failure := song.failure or self._crashing.get(song.id, ""):
            return Sound(facts=song.facts, failure=failure)
        self._renderer = self._renderer or renderer(self.settings)
        return record(song.facts, song.midi, self._renderer, self.settings)

    def try_out(self, songs: Sequence[Song]) -> None:
        """Find the songs that crash the synthesizer. Raises ToolError for a fault of the machine."""
        self._crashing.update(_crashing([song for song in songs if not song.failure], self.settings))


def _crashing(songs: Sequence[Song], settings: AudioSettings) -> dict[int, str]:
    found: dict[int, str] = {}
    begin, crashes = 0, 0
    while begin < len(songs):
        played, code = _play_apart(songs[begin:], settings)
        if code == 0:
            break
        ending = signal.Signals(-code) if code < 0 else None
        if ending is None or ending in _BY_MACHINE:
            how = ending.name if ending else f"exit code {code}"
            raise ToolError(f"song {songs[begin + played].id}: rendering ended by {how}")
        crashes = crashes + 1 if played == 0 else 1
        begin += played
        if crashes == _CRASHES:
            found[songs[begin].id] = f"crashes the synthesizer ({ending.name})"
            begin, crashes = begin + 1, 0
    return found


def _play_apart(songs: Sequence[Song], settings: AudioSettings) -> tuple[int, int]:
    """Play songs in a process of its own: how many of them it survived, and how it ended."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_play_all, args=(songs, settings, sender), daemon=True)
    process.start()
    sender.close()
    played = 0
    try:
        while receiver.poll(_SECONDS):
            receiver.recv_bytes()
            played += 1
        process.kill()
    except EOFError:
        pass
    process.join()
    return played, process.exitcode or 0


def _play_all(songs: Iterable[Song], settings: AudioSettings, played: Connection) -> None:
    instrument = renderer(settings)
    for song in songs:
        with contextlib.suppress(NoSound):
            play(song.facts, song.midi, instrument)
        played.send_bytes(b"")
