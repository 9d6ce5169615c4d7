"""What a chain of jobs has planned, and whether that is what lies in its songs directory when it ends.

Jobs that end a chain start whatever became of those before them, and a directory may hold an earlier night's
plan. So planning leaves a note beside its job's file once it has ended well, and who collects compares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.cluster.cancelling import GO_ON, was_cancelled
from reelmill.cluster.node.requeue import journal, read_journal
from reelmill.cluster.submission import submissions
from reelmill.config import Config
from reelmill.errors import CancelledError, RequestError
from reelmill.songs.store.plan import plan_path, read_plan, require_equal

_NOTE = "planned.json"
_KEYS = ("seed", "model", "songs_per_shard")


def planned(directory: Path) -> dict[str, Any]:
    """What the plan of a songs directory asks for, as far as it decides what its songs are."""
    plan = durable.read_json(plan_path(directory))
    return {key: plan[key] for key in (*_KEYS, "songs", "audio", "settings")}


def note_planned(directory: Path, job_file: Path) -> None:
    """Note beside the planning job's file what it has planned, for who collects."""
    durable.write_json(job_file.with_name(_NOTE), planned(directory))


def planned_by(job_file: Path, run: Path, directory: Path) -> dict[str, Any]:
    """What the planning job of ``job_file`` has planned; RequestError that says why it has not."""
    note = job_file.with_name(_NOTE)
    if note.is_file():
        facts: dict[str, Any] = durable.read_json(note)
        return facts
    events = read_journal(journal(job_file, ""))
    if not events:
        trained = next((item for item in reversed(submissions(run)) if item["stage"] == "train"), None)
        if trained and was_cancelled(trained):
            raise CancelledError(f"{directory}: the training of {run} was cancelled; {GO_ON}")
        reason = f"planning never started, since training did not end well; see `reelmill status {run}`"
    elif events[-1]["reason"]:
        reason = f"planning ended: {events[-1]['reason']}; see {job_file.parent}"
    else:
        reason = f"planning was killed; see {job_file.parent}"
    older = " (its plan.json is an earlier one)" if plan_path(directory).is_file() else ""
    raise RequestError(f"{directory}: not planned by this chain{older}: {reason}")


def refuse_other_plan(directory: Path, asked: Mapping[str, Any]) -> None:
    """RequestError, naming every key, unless the plan there is what was ``asked``, or that and more songs."""
    if not plan_path(directory).is_file():
        raise RequestError(f"{directory}: not planned: plan.json is gone")
    lines = [
        f"{key} is {now!r}, this chain asked for {then!r}" for key, now, then in _others(directory, asked)
    ]
    if lines:
        raise RequestError(f"{plan_path(directory)} plans other songs: {'; '.join(lines)}")


def refuse_earlier_plan(directory: Path, config: Config, songs: int, seed: int) -> None:
    """RequestError if a plan is there that these settings, whatever their model, could not go on with."""
    if not plan_path(directory).is_file():
        return
    plan = read_plan(directory)
    wanted = replace(
        plan,
        sampling=config.sampling,
        audio_settings=config.audio,
        songs_settings=config.songs,
        songs=songs,
        seed=seed,
    )
    require_equal(directory, plan, wanted)


def _others(directory: Path, asked: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    now = planned(directory)
    yield from ((key, now[key], asked[key]) for key in _KEYS if now[key] != asked[key])
    if now["songs"] < asked["songs"]:
        yield "songs", now["songs"], asked["songs"]
    if asked["audio"] and not now["audio"]:
        yield "audio", now["audio"], asked["audio"]
    for section in ("sampling", "songs", *(["audio"] if asked["audio"] else [])):
        then = asked["settings"][section]
        for key, value in now["settings"][section].items():
            if value != then.get(key):
                yield f"{section}.{key}", value, then.get(key)
