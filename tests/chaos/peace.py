"""The corpus that nothing disturbs, and the comparison with it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watched import Command, Failure

from reelmill import config, durable
from reelmill.songs.check.verify import verify
from reelmill.songs.store.manifest import KINDS, Kind, manifest_path, shard_numbers
from reelmill.songs.store.plan import read_plan
from reelmill.tracking.metrics import read_metrics

METRICS = "metrics.jsonl"
Say = Callable[[str], None]

_RECIPE = (
    "corpus.max_tune_length=200",
    "model.embedding_size=16",
    "model.hidden_size=64",
    "training.steps=220",
    "training.batch_size=16",
    "training.sequence_length=64",
    "training.learning_rate=0.01",
    "training.evaluate_every=110",
    "training.checkpoint_every=110",
    "sampling.max_length=150",
    "sampling.slots=64",
    "audio.sample_rate=8000",
    "audio.channels=1",
    "tracking.comet=false",
)
_FIGURES = ("GABG", "d2BG", "ABcA", "dcBA", "G4", "e2dB", "BAGB", "gfed")
_TUNES = 120


def train(run: Path, place: Path, songs_per_shard: int) -> Path:
    """A run whose model has learnt tunes of two bars, most of which pass."""
    from reelmill.training import loop

    chosen = random.Random(1)
    tunes = [
        f"X:{number}\nT:Reel\nM:4/4\nL:1/8\nQ:1/4=240\nK:G\n"
        f"|:{'|'.join(' '.join(chosen.choices(_FIGURES, k=2)) for _ in range(2))}:|\n"
        for number in range(1, _TUNES + 1)
    ]
    (place / "tunes").mkdir(parents=True)
    (place / "tunes" / "reels.abc").write_text("\n".join(tunes))
    own = (
        f"corpus.source={place / 'tunes'}",
        f"corpus.directory={place / 'corpus'}",
        f"songs.songs_per_shard={songs_per_shard}",
    )
    loop.train(config.load(None, [*_RECIPE, *own]), run)
    return run


def make_in_peace(run: Path, songs: Path, total: int, say: Say) -> None:
    """One worker makes and collects the corpus, and nothing happens to it."""
    began = time.monotonic()
    made = ["generate", run, "--songs", total, "--out", songs, "--json"]
    for arguments in (made, ["collect", songs, "tracking.comet=false"]):
        command = Command(songs.parent / f"{arguments[0]}.log", *arguments)
        if command.wait():
            raise Failure(f"{command}:\n{command.said()}")
    say(f"undisturbed: {total} songs, {read_plan(songs).shards} shards in {time.monotonic() - began:.0f} s")


def facts(songs: Path, kind: Kind, number: int) -> dict[str, Any]:
    """A manifest without its maker; DamagedError if there is none."""
    manifest: dict[str, Any] = durable.read_json(manifest_path(songs, kind, number))
    del manifest["made_by"]
    return manifest


def manifests(songs: Path) -> dict[tuple[Kind, int], dict[str, Any]]:
    """All manifests without their makers."""
    return {
        (kind, number): facts(songs, kind, number) for kind in KINDS for number in shard_numbers(songs, kind)
    }


def compare(songs: Path, peace: Path) -> None:
    """Failure unless ``songs`` verifies and has the files of ``peace``, no more and no other."""
    found = verify(songs)
    if not found.intact:
        raise Failure(found.describe())
    if manifests(songs) != manifests(peace):
        raise Failure(f"{songs}: its manifests differ from those of the undisturbed corpus")
    if _points(songs) != _points(peace):
        raise Failure(f"{songs}/{METRICS}: has not each shard once")
    ours, theirs = _contents(songs), _contents(peace)
    if left := sorted(ours.keys() - theirs.keys()):
        raise Failure(f"{songs}: kills and reelmill clean have left {left}")
    if differing := sorted(name for name in theirs if ours.get(name) != theirs[name]):
        raise Failure(f"{songs}: differs from the undisturbed corpus in {differing}")


def _contents(songs: Path) -> dict[str, str]:
    """SHA-256 of every file, "" for those that say when and by whom a shard was made."""
    listings = {manifest_path(songs, kind, number) for kind in KINDS for number in shard_numbers(songs, kind)}
    return {
        str(path.relative_to(songs)): "" if path in {*listings, songs / METRICS} else durable.sha256(path)
        for path in songs.rglob("*")
        if path.is_file()
    }


def _points(songs: Path) -> list[str]:
    """The shards that the metrics speak of."""
    return sorted(record["of"] for record in read_metrics(songs / METRICS) if record["kind"] in KINDS)
