"""Songs end to end on this machine: sampled, judged, rendered, measured, committed and synced.

One `reelmill generate` at a time makes songs of a properly trained model of full size
(``configs/irish-tuned.yaml``, trained first if it is not there) and is stopped when its time is up. What
counts is songs in finished shards over all of its time, imports and the last unfinished shards included. The
variants run for minutes only; their rate is that from the first finished shard to the last.
Full-size WAVs would fill the disk in minutes, so a shard's audio is emptied (a hole is punched into it) once
it has been committed and synced; its manifest stays. Mean lengths stand beside those of the training tunes: a
model that makes short songs would make many.

Run: python tests/benchmarks/songs.py [--model RUN] [--minutes M]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory import watched
from table import Row, row, table
from trained import RUN, trained

from reelmill.runs import run_config
from reelmill.songs.make.reference import read_tunes, write_tunes
from reelmill.songs.store.manifest import Kind
from reelmill.songs.store.plan import read_plan
from reelmill.songs.store.song import TIERS
from reelmill.songs.store.totals import count_half

PLANNED = 1_000_000
SHARD = 100  # songs; a worker's last shards, cut off by the clock, do not count
SHORT = 1.5  # minutes of the variants


@dataclass
class Corpus:
    """What was made in ``seconds``, by ``workers`` processes and their children."""

    seconds: float
    songs: int
    attempts: dict[str, int]
    characters: float  # a song, mean
    duration: float  # seconds a song, mean
    peak_memory: int  # bytes, resident, of the worker and its children
    steady_rate: float  # songs a second between the first and the last finished shard
    tunes: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.songs / self.seconds


def make(
    model: Path, minutes: float, *settings: str, workers: Sequence[set[int]] = ({*()},), audio: bool = True
) -> Corpus:
    """Make songs for so long; one worker for each set of processors (empty: all of them)."""
    with tempfile.TemporaryDirectory(dir=".", prefix="bench-songs-") as place:
        directory = Path(place) / "songs"
        began = time.monotonic()
        running = [
            _start(model, directory, index, len(workers), processors, audio, settings)
            for index, processors in enumerate(workers)
        ]
        with _emptied(directory), watched([one.pid for one in running]) as peak:
            deadline = began + 60 * minutes
            while time.monotonic() < deadline and all(one.poll() is None for one in running):
                time.sleep(0.5)
            seconds = time.monotonic() - began
            if any(one.poll() is not None for one in running):
                raise SystemExit(f"a worker of {directory} ended after {seconds:.0f} s: {running}")
            half: Kind = "audio" if audio else "text"
            made = count_half(directory, read_plan(directory), half)
            finished = sorted(
                manifest.stat().st_mtime for manifest in (directory / half).glob("shard-*.json")
            )
            for one in running:
                one.terminate()
            for one in running:
                one.wait(timeout=300)
        attempts = count_half(directory, read_plan(directory), "text").attempts
        facts = list(_facts(directory))
        write_tunes(directory, run_config(model).corpus)
        return Corpus(
            seconds=seconds,
            songs=made.songs,
            attempts=attempts,
            characters=statistics.fmean(each["characters"] for each in facts),
            duration=statistics.fmean(each["midi_seconds"] for each in facts),
            peak_memory=peak[0],
            steady_rate=SHARD * (len(finished) - 1) / (finished[-1] - finished[0]),
            tunes=read_tunes(directory) or {},
        )


def _start(
    model: Path,
    directory: Path,
    index: int,
    count: int,
    processors: set[int],
    audio: bool,
    settings: Sequence[str],
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "reelmill.cli", "generate", str(model), "--out", str(directory)]
    command += ["--songs", str(PLANNED), "--shard", f"{index}/{count}", f"songs.songs_per_shard={SHARD}"]
    command += [*([] if audio else ["--no-audio"]), "--temperature", "0.9", *settings]
    if processors:
        command = ["taskset", "--cpu-list", ",".join(map(str, sorted(processors))), *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


@contextmanager
def _emptied(directory: Path) -> Iterator[None]:
    """Free the disk of every audio tar that has been committed, leaving its size as it is."""
    done, emptied = threading.Event(), set()

    def sweep() -> None:
        while not done.wait(1.0):
            for manifest in sorted((directory / "audio").glob("shard-*.json")):
                if manifest not in emptied:
                    tar = manifest.with_suffix(".tar")
                    length = str(tar.stat().st_size)
                    subprocess.run(["fallocate", "--punch-hole", "--length", length, str(tar)], check=True)
                    emptied.add(manifest)

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _facts(directory: Path) -> Iterator[dict[str, Any]]:
    """ID.json of the songs in the first twenty finished shards of text."""
    from reelmill.songs.store.tar import read_some

    for tar in sorted((directory / "text").glob("shard-*.tar"))[:20]:
        for _, data in read_some(tar, lambda name: name.endswith(".json")):
            yield json.loads(data)


def verified(model: Path, songs: int = 300) -> tuple[float, float]:
    """Bytes of a directory, and seconds that `reelmill verify` takes for it."""
    with tempfile.TemporaryDirectory(dir=".", prefix="bench-songs-") as place:
        directory = str(Path(place) / "songs")
        reelmill = [sys.executable, "-m", "reelmill.cli"]
        subprocess.run(
            [*reelmill, "generate", str(model), "--out", directory, "--songs", str(songs)],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        size = sum(tar.stat().st_size for tar in Path(directory).glob("*/*.tar"))
        began = time.monotonic()
        subprocess.run([*reelmill, "verify", directory], check=True, stdout=subprocess.DEVNULL)
        return size, time.monotonic() - began


def rows(model: Path | None = None, minutes: float = 10.0) -> list[Row]:
    """End to end, the variants, one worker and two, verification."""
    model = model or trained()
    processors = sorted(os.sched_getaffinity(0))
    whole = make(model, minutes)
    passed = {tier: whole.attempts.get(tier, 0) / whole.attempts["made"] for tier in TIERS}
    kind = f"44.1 kHz stereo WAV, {whole.seconds / 60:.1f} minutes, {len(processors)} processors"
    found = [
        {
            **row(f"valid songs end to end, {kind}", whole.rate, "/s"),
            "goal": "≥ 25",
            "met": whole.rate >= 25,
        },
        row("… of audio", whole.rate * whole.duration, "s/s"),
        row("… attempts a song", whole.attempts["made"] / max(1, whole.attempts["midi"]), ""),
        *(row(f"… of attempts pass {tier}", 100 * share, "%") for tier, share in passed.items()),
        row("… peak memory, worker and children", whole.peak_memory / 1e6, "MB"),
        _beside_tunes("… mean characters", whole.characters, whole.tunes["characters"], ""),
        _beside_tunes("… mean seconds", whole.duration, whole.tunes["seconds"], "s"),
    ]
    for name, settings in (
        ("WAV mono", ["audio.channels=1"]),
        ("FLAC stereo", ["audio.format=flac"]),
        ("FLAC mono", ["audio.format=flac", "audio.channels=1"]),
    ):
        variant = make(model, SHORT, *settings)
        found.append(
            row(
                f"valid songs end to end, {name}",
                variant.steady_rate,
                "/s",
                "stereo WAV",
                variant.steady_rate / whole.steady_rate,
            )
        )
    text = make(model, SHORT, audio=False)
    found.append(
        row(
            "valid songs without audio",
            text.steady_rate,
            "/s",
            "stereo WAV",
            text.steady_rate / whole.steady_rate,
        )
    )
    if len(processors) > 1:
        one = make(model, SHORT, workers=[{processors[0]}])
        two = make(model, SHORT, workers=[{processors[0]}, {processors[1]}])
        found.append(
            row(
                "valid songs by 2 workers of a processor each",
                two.steady_rate,
                "/s",
                "1 such worker",
                two.steady_rate / one.steady_rate,
            )
        )
    size, seconds = verified(model)
    found.append(row("verify", size / seconds / 1e6, "MB/s"))
    return found


def _beside_tunes(name: str, songs: float, tunes: float, unit: str) -> Row:
    ratio = songs / tunes
    return {
        **row(name, songs, unit, f"the training tunes' {tunes:.4g}", ratio),
        "goal": "0.9 to 1.1",
        "met": 0.9 <= ratio <= 1.1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help=f"a run (default: {RUN}, trained if it is not there)")
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    print(table(rows(options.model, options.minutes)))


if __name__ == "__main__":
    main()
