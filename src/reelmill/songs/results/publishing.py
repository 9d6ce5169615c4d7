"""Bring a songs directory to Comet while its workers make it, all of them as one experiment.

Whichever worker holds a lock publishes for everybody: it keeps metrics.jsonl up to date with the manifests of
all (``throughput``) and adds a few songs with their sound. When it is killed, another takes the lock and goes
on from where Comet confirmed. What is left when the last worker ends, ``collect`` delivers; offline it is
``collect`` that makes the archive.

All of it runs in a thread that wakes every few seconds. No failure of it reaches the worker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reelmill import config as configuration
from reelmill.errors import DamagedError
from reelmill.lock import Lock
from reelmill.songs.results.throughput import Figures
from reelmill.songs.store.manifest import Kind, check, member_name, read_manifest, tar_path
from reelmill.songs.store.plan import Plan, plan_path, read_plan
from reelmill.songs.store.tar import read_some
from reelmill.tracking.comet import FOLDER, Publisher, may_be_online
from reelmill.tracking.settings import TrackingSettings

_log = logging.getLogger(__name__)
_PERIOD = 10.0  # seconds between two looks
_LAST_WORDS = 10.0  # seconds a worker waits for Comet when all is made
_SAMPLE = 8  # songs published while they are made, spread over the corpus


def tracking_settings(directory: Path, overrides: Sequence[str] = ()) -> TrackingSettings:
    """Where a songs directory is tracked: as its run was, ``section.key=value`` overrides applied."""
    planned = configuration.to_dict(read_plan(directory).config())
    return configuration.from_dict(planned, str(plan_path(directory)), overrides).tracking


def parameters(plan: Plan) -> dict[str, Any]:
    """What a plan says, as an experiment's parameters."""
    return {
        "songs": {
            "run": Path(plan.run).name,  # where it lies concerns nobody else
            "model": plan.model,
            "seed": plan.seed,
            "planned": plan.songs,
            "audio": plan.audio,
            "temperature": plan.sampling.temperature,
            **dataclasses.asdict(plan.songs_settings),
        },
        "sampling": dataclasses.asdict(plan.sampling),
        **({"audio": dataclasses.asdict(plan.audio_settings)} if plan.audio else {}),
    }


@contextlib.contextmanager
def published_live(directory: Path, overrides: Sequence[str] = ()) -> Iterator[None]:
    """Publish while the block makes songs, where Comet can be reached, as the directory's plan and
    ``overrides`` say.

    A block of a few seconds leaves all to ``collect``.
    """
    live = _Live(directory, overrides)
    live.thread.start()
    patience = 0.0
    try:
        yield
        patience = _LAST_WORDS
    finally:
        live.close(patience)


class _Live:
    """The thread of one worker; ``patience`` in seconds."""

    def __init__(self, directory: Path, overrides: Sequence[str]) -> None:
        self._directory, self._overrides = directory, overrides
        self._figures = Figures(directory)
        self._closing = threading.Event()
        self._patience = 0.0
        self._lock: Lock | None = None
        self._seen = 0.0  # when the lock was last touched
        self._publisher: Publisher | None = None
        self._to_come: list[int] | None = None  # shards whose first song is still to be published
        self._warned = False
        self.thread = threading.Thread(target=self._run, name="publishing", daemon=True)

    def close(self, patience: float) -> None:
        """Publish the rest and let the lock go; with no patience, leave both to whoever comes next."""
        self._patience = patience
        self._closing.set()
        self.thread.join(patience + 1)

    def _run(self) -> None:
        while not self._closing.wait(_PERIOD):
            self._look()
        if self._publisher:
            if self._patience:
                self._look()
            self._publisher.close(self._patience, archive=False)
        if self._lock:
            self._lock.release()

    def _look(self) -> None:
        try:
            if not plan_path(self._directory).exists():
                return
            settings = tracking_settings(self._directory, self._overrides)
            if not may_be_online(settings) or not self._is_ours():
                return
            plan = read_plan(self._directory)
            self._publisher = self._publisher or Publisher(self._directory, settings, parameters(plan))
            self._figures.update()
            self._publish_songs(self._publisher, plan)
            self._publisher.publish()
        except Exception as error:
            if not self._warned:
                _log.warning("not published for now, going on without: %s", error)
            self._warned = True

    def _is_ours(self) -> bool:
        if self._lock is None:
            lock = Lock(self._directory / FOLDER / "worker.lock")
            lock.path.parent.mkdir(parents=True, exist_ok=True)
            seen, self._seen = self._seen, lock.path.stat().st_mtime if lock.path.exists() else 0.0
            if seen != self._seen or not lock.take():  # its holder gives a sign of life between two looks
                return False
            self._lock = lock
        return True

    def _publish_songs(self, publisher: Publisher, plan: Plan) -> None:
        kind: Kind = "audio" if plan.audio else "text"
        self._to_come = _sample(plan) if self._to_come is None else self._to_come
        for number in list(self._to_come):
            try:
                check(self._directory, kind, number, plan.first(number), plan.count(number))
                song, abc, sound = _first_song(self._directory, kind, number)
            except DamagedError:
                continue  # not made yet
            self._to_come.remove(number)
            if abc:
                publisher.log_song(f"song-{member_name(song)}", abc, sound or None)


def _sample(plan: Plan) -> list[int]:
    """The shards whose first song is published."""
    return sorted({index * plan.shards // _SAMPLE for index in range(_SAMPLE)})


def _first_song(directory: Path, kind: Kind, number: int) -> tuple[int, str, bytes]:
    """(id, ABC, sound) of a shard's first song; no ABC if all have failed."""
    manifest = read_manifest(directory, kind, number)
    failed = {failure.id for failure in manifest.failed}
    ids = (song for song in range(manifest.first, manifest.first + manifest.count) if song not in failed)
    song = next(ids, -1)
    abc, sound = "", b""
    stem = f"{member_name(max(song, 0))}."
    for name, data in read_some(tar_path(directory, kind, number), lambda name: name.startswith(stem)):
        if name.endswith(".json"):
            abc = json.loads(data)["abc"]
        elif not name.endswith((".abc", ".mid")):
            sound = data
            break
    return song, abc, sound
