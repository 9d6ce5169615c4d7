"""``reelmill verify``: is a songs directory complete, intact, and every id there exactly once?

Every byte is read and hashed, shards in parallel. Nothing is changed, unless what is damaged is to be
discarded: then ``reelmill generate DIR`` makes it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.audio.encode import extension
from reelmill.errors import DamagedError
from reelmill.resources import processors
from reelmill.songs.check.examine import Examination, Verified, examine
from reelmill.songs.store.manifest import KINDS, discard, manifest_path, tar_path
from reelmill.songs.store.plan import Plan, model_path, read_plan

_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What ``verify`` found. ``problems`` are lines that name a file each; none means that all is well."""

    directory: Path
    planned: int  # songs
    songs: int  # that are there, each exactly once
    failed: int  # ids declared to have no song
    silent: int  # songs declared to have no sound
    shards: int
    bytes: int  # in tars
    missing: list[str]  # files of shards that are not finished
    problems: list[str]  # with what is there
    strays: list[str]  # files among the shards that are none of the plan's
    discarded: list[str]  # where damaged halves of shards have been put

    @property
    def made(self) -> bool:
        """Whether all that is planned is there and intact, whatever else is."""
        return not self.missing and not self.problems

    @property
    def intact(self) -> bool:
        """Whether the directory is complete, intact and exactly once."""
        return self.made and not self.strays

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {"intact": self.intact, **asdict(self), "directory": str(self.directory)}

    def describe(self) -> str:
        """A few lines for a person."""
        done = f"{self.songs} of {self.planned} songs"
        shards = f"{self.shards} shard{'' if self.shards == 1 else 's'}"
        lines = [f"{self.directory}: {done}, {self.bytes:,} bytes in {shards}"]
        if self.failed:
            lines.append(f"{self.failed} ids are declared to have no song")
        if self.silent:
            lines.append(f"{self.silent} songs are declared to have no sound")
        lines += _shown([f"{path}: not finished" for path in self.missing])
        lines += _shown(self.problems)
        lines += _shown([f"{path}: not a file of this plan; remove it" for path in self.strays])
        lines += _shown([f"{path}: put aside" for path in self.discarded])
        if self.intact and self.songs:
            lines.append("complete, intact, every id exactly once")
        elif self.intact:
            lines.append(
                "nothing is missing or damaged, but there is no song: every id is a declared failure"
            )
        elif not self.made:
            lines.append(f"{self._mend()} makes what is missing or damaged")
        return "\n".join(lines)

    def _mend(self) -> str:
        generate = f"reelmill generate {self.directory}"
        if self.discarded or not self.problems:
            return generate
        return f"reelmill verify {self.directory} --discard-damaged && {generate}"


def verify(
    directory: Path, resume: bool = False, audio: bool = True, discard_damaged: bool = False
) -> Verification:
    """Read everything in a songs directory, one shard a processor at once.

    With ``resume`` what an earlier call with it has read is left out, and what is read is remembered: for
    jobs that are killed on the way. Without ``audio`` the sound is none of its business. With
    ``discard_damaged`` halves of shards that something is wrong with are put aside in ``damaged/``, so that
    they count no longer. RequestError if there is no plan; every other problem is in the result.
    """
    plan = read_plan(directory)
    plan = plan if audio else replace(plan, audio=False)
    memory = Verified(directory, plan) if resume else None
    problems = _model_problems(directory, plan)
    sound = extension(plan.audio_settings) if plan.audio else None
    missing: list[str] = []
    discarded: list[str] = []
    total = Examination(shard=-1)

    def examine_one(number: int) -> Examination:
        known = memory.recall(number) if memory else None
        state = memory.state(number) if memory else None
        found = known or examine(directory, number, plan.first(number), plan.count(number), sound)
        if memory and not known:
            memory.remember(found, state)
        return found

    with ThreadPoolExecutor(processors()) as threads:  # hashing leaves the interpreter to the others
        for found in threads.map(examine_one, range(plan.shards)):
            missing += [str(manifest_path(directory, kind, found.shard)) for kind in found.missing]
            problems += [line for lines in found.problems.values() for line in lines]
            if discard_damaged:
                damaged = [kind for kind, lines in found.problems.items() if lines]
                discarded += [str(discard(directory, kind, found.shard)) for kind in damaged]
            total.songs += found.songs
            total.failed += found.failed
            total.silent += found.silent
            total.bytes += found.bytes
    return Verification(
        directory=directory,
        planned=plan.songs,
        songs=total.songs,
        failed=total.failed,
        silent=total.silent,
        shards=plan.shards,
        bytes=total.bytes,
        missing=missing,
        problems=problems,
        strays=[str(path) for path in _strays(directory, plan)],
        discarded=discarded,
    )


def _model_problems(directory: Path, plan: Plan) -> list[str]:
    path = model_path(directory)
    try:
        named = durable.verify_directory(path).get("model")
    except DamagedError as error:
        return [str(error)]
    return [] if named == plan.model else [f"{path}: not the model that the plan names ({plan.model[:12]})"]


def _strays(directory: Path, plan: Plan) -> Iterator[Path]:
    for kind in KINDS:
        expected = {
            path.name
            for number in range(plan.shards)
            for path in (tar_path(directory, kind, number), manifest_path(directory, kind, number))
        }
        if not (directory / kind).is_dir():
            continue
        for path in sorted((directory / kind).iterdir()):
            # Ours that are unfinished hide, and so do files that a network's file system keeps for a while.
            if path.name not in expected and not path.name.startswith("."):
                yield path


def _shown(lines: list[str]) -> list[str]:
    return lines[:_SHOWN] + ([f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])
