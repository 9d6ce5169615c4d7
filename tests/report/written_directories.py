"""A small songs directory, written with the project's own writers, and a run directory."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from reelmill.audio.midi import abc_to_midi
from reelmill.audio.settings import AudioSettings
from reelmill.sampling.settings import SamplingSettings
from reelmill.songs.settings import SongsSettings
from reelmill.songs.store.manifest import committing
from reelmill.songs.store.plan import Plan, create_plan
from reelmill.songs.store.song import to_json
from reelmill.tracking.metrics import MetricsLog

TUNES = [
    "X:1\nT:The Silver Spear\nM:4/4\nL:1/8\nK:D\n|:A2 FA d2 fd|efde fdBd|A2 FA dAFA|BEE2 E2 FG:|\n",
    "X:2\nT:Jig of Slurs\nR:jig\nM:6/8\nL:1/8\nK:G\n|:GBd gdB|cec BdB|AFD DEF|GAB A2 D:|\n",
    "X:3\nT:Waltz for Nobody\nM:3/4\nL:1/8\nK:Em\nE2 G2 B2|e4|B2 A2 G2|E6|]\n",
]
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
HOSTILE_SONG = 1  # the first of the sample
FAILED = 5  # the id of the song that failed


def tone(seconds: float, frequency: float, rate: int = 44100) -> bytes:
    """A stereo WAV."""
    time = np.arange(int(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * frequency * time) * np.exp(-2 * (time % 0.5))
    file = io.BytesIO()
    soundfile.write(file, np.stack([wave, wave], axis=1), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def facts(song: int) -> dict[str, Any]:
    """The ID.json of a song."""
    abc = TUNES[song % len(TUNES)]
    title = abc.split("\n")[1][2:]
    if song == HOSTILE_SONG:
        title, abc = HOSTILE, abc.replace(title, HOSTILE)
    fields = dict(line.split(":", 1) for line in abc.splitlines()[1:5] if ":" in line)
    return {
        "id": song,
        "abc": abc,
        "attempts": 1 + song % 2,
        "characters": len(abc),
        "notes": 28,
        "midi_seconds": 2.0 + song / 4,
        "tempo_bpm": 90.0 + 10 * (song % 7),
        "headers": True,
        "midi": True,
        "bars": song % 3 != 2,
        "title": title,
        "rhythm": fields.get("R", ""),
        "meter": fields["M"],
        "key": fields.get("K", "Em"),
    }


def write_songs(directory: Path, count: int, per_shard: int, audio: bool, run: str = "") -> Path:
    """A finished songs directory in which song ``FAILED`` has failed."""
    plan = Plan(
        seed=7,
        songs=count,
        audio=audio,
        sampling=SamplingSettings(),
        audio_settings=AudioSettings(),
        songs_settings=SongsSettings(songs_per_shard=per_shard),
        model="0123456789abcdef" * 4,
        run=run,
        checkpoint="",
        fingerprint={},
    )
    create_plan(directory, plan)
    for number in range(plan.shards):
        first, size = plan.first(number), plan.count(number)
        ids = [song for song in range(first, first + size) if song != FAILED]
        failed = [{"id": FAILED, "reason": "fewer than 16 notes"}] if len(ids) < size else []
        for kind in ("text", "audio") if audio else ("text",):
            with committing(directory, kind, number) as commit:  # type: ignore[arg-type]
                for song in ids:
                    name, content = f"{song:09d}", facts(song)
                    sound = {"duration_seconds": 2.0 + song / 4, "loudness_dbfs": -20.0 - song % 5}
                    sound["spectral_centroid_hz"] = 900.0 + 150 * (song % 9)
                    if kind == "audio":
                        commit.add(f"{name}.wav", tone(2 + song / 4, 220 + 20 * song))
                    commit.add(f"{name}.abc", content["abc"].encode())
                    commit.add(f"{name}.json", to_json({**content, **sound} if kind == "audio" else content))
                    if kind == "text":
                        commit.add(f"{name}.mid", abc_to_midi(content["abc"]).data)
                tally = {
                    "made": 2 * size,
                    "ended": 2 * size,
                    "headers": 2 * size,
                    "midi": size,
                    "bars": size // 2,
                }
                commit.facts = {
                    "first": first,
                    "count": size,
                    "failed": failed,
                    "attempts": tally if kind == "text" else {},
                }
                commit.made_by = {"finished": f"2026-01-02T03:04:{2 * number + 2:02d}+00:00", "seconds": 2.0}
    return directory


def write_run(directory: Path, steps: int = 200) -> Path:
    """A run directory with its metrics."""
    log = MetricsLog(directory / "metrics.jsonl")
    for step in range(10, steps + 1, 10):
        bits = 1.4 + 3 * np.exp(-step / 60)
        values = {"loss": bits * 0.693, "bits_per_char": bits, "learning_rate": 0.002}
        if step % 50 == 0:
            values["validation_bits_per_char"] = bits + 0.1
        log.append(step, **values, chars_per_second=4000.0 + step % 30, batch=f"{step:064x}")
    log.close()
    (directory / "config.yaml").write_text("training:\n  steps: 200\n")
    return directory
