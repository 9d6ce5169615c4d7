"""Kills generation and collecting at random moments, and compares with what nothing disturbed.

A small model is trained and makes a corpus twice: once in peace, once by one or two commands at a time that
are started again and again. Each is watched until it is in the phase to be hit; then it is killed, alone or
with its children, or asked to stop. Others have two workers, lose one of them and have to go on, before all
are killed. Between starts finished shards are damaged, and the disk fills up. In the end both directories
must hold the same files, byte for byte but for what manifests and metrics say of who made a shard and when.

A phase is counted as it was seen both before and after the signal. Phases overlap (sampling goes on while
songs are rendered and committed); a kill is counted once, under the phase it was aimed at.

Run: python tests/chaos/generate.py [--songs N] [--kills N] [--seed S]. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import disk
from harm import HARMS
from peace import Say, compare, facts, make_in_peace, manifests, train
from story import BETWEEN, CHILD, GROUP, KILL, TERM, Kill, Story
from watched import (
    COLLECTING,
    COMMITTING,
    FIRST_STEPS,
    PHASES,
    RENDERING,
    SAMPLING,
    START_UP,
    Command,
    Failure,
)

from reelmill import durable
from reelmill.errors import DamagedError
from reelmill.songs.store.manifest import KINDS, Kind, check, shard_numbers, tar_path
from reelmill.songs.store.plan import read_plan

_MIX = (KILL, GROUP, TERM, KILL, KILL, GROUP)
_CODES = {KILL: -signal.SIGKILL, TERM: -signal.SIGTERM, GROUP: -signal.SIGKILL}
_WORKERS_DELAY = 1.5  # seconds at most before one of two workers is killed, and then before all are
_DELAYS = {START_UP: 0.03, SAMPLING: 0.01, RENDERING: 0.01, COMMITTING: 0.004, COLLECTING: 0.02}
"""Seconds at most between seeing a phase and hitting it."""

_SHARDS = 200
_SMALLEST_SHARD = 20  # songs
_PACED = 0.9  # of the corpus may be finished when the last worker is hit
_ROOMS = (1 << 20, 16 << 10, 3 << 20)  # bytes left on a disk that fills up

Aim = tuple[str, str]


def chaos(place: Path, songs: int, kills: int, full_disks: int, seed: int, say: Say) -> Story:
    """At least ``kills`` kills, a fifth of them in each phase. Failure says what differs."""
    run = train(place / "run", place, max(_SMALLEST_SHARD, songs // _SHARDS))
    peace = place / "peace" / "songs"
    make_in_peace(run, peace, songs, say)
    campaign = Campaign(place, run, songs, peace, random.Random(seed), say)
    campaign.disturb_generate(kills, full_disks)
    campaign.finish()
    campaign.disturb_collect(kills)
    campaign.clean()
    compare(campaign.songs, peace)
    return campaign.story


class Campaign:
    """One songs directory, what happens to it, and what it must come to."""

    def __init__(
        self, place: Path, run: Path, total: int, peace: Path, chosen: random.Random, say: Say
    ) -> None:
        self.songs = place / "disturbed" / "songs"
        self.story = Story()
        self._place, self._run, self._total, self._chosen, self._say = place, run, total, chosen, say
        self._peace, self._expected = peace, manifests(peace)
        self._shards = read_plan(peace).shards
        self._aims: list[Aim] = []
        self._harmed: set[tuple[Kind, int]] = set()
        self._first_steps = itertools.cycle(range(1, len(FIRST_STEPS) + 1))
        self._harms = itertools.cycle(itertools.product(HARMS, KINDS))
        self._mounts = disk.can_mount(place / "disk")

    def disturb_generate(self, kills: int, full_disks: int) -> None:
        """Let workers make most of the corpus, and meet all aims but those at collecting."""
        ways = itertools.cycle(_MIX)
        for phase in PHASES:
            if phase != COLLECTING:
                self._aims += [(phase, way) for way in itertools.islice(ways, -(-kills // len(PHASES)))]
        goals = len(self._aims)
        rooms = enumerate(itertools.islice(itertools.cycle(_ROOMS), full_disks), start=1)
        episodes = [(goals * number // (full_disks + 1), room) for number, room in rooms]
        lost = 0
        while self._aims or lost < -(-kills // len(PHASES)):
            if self._aims:
                self._round(goals)
            lost += self._lose_a_worker()
            if episodes and goals - len(self._aims) >= episodes[0][0]:
                self._fill_disk(episodes.pop(0)[1], goals)

    def finish(self) -> None:
        """Let one worker come to the end, then do each harm to both halves and have it made good."""
        self._end_well(self._worker())
        places = self._chosen.sample(range(self._shards), len(HARMS) * len(KINDS))
        for number, (name, kind) in zip(places, itertools.product(HARMS, KINDS), strict=True):
            self._harm(name, kind, number)
        self._ended(self._start("verify", self.songs, "--discard-damaged"), None, codes={1})
        self._throw_away()
        self._end_well(self._worker())
        if self._harmed:
            raise Failure(f"{self.songs}: not made good: {sorted(self._harmed)}")

    def _throw_away(self) -> None:
        """Remove what ``verify`` has put aside, once it is seen to be nothing but what was harmed."""
        aside = self.songs / "damaged"
        found = {(kind, number) for kind in KINDS for number in shard_numbers(aside, kind)}
        if found - self._harmed:
            raise Failure(
                f"{aside}: verify has put aside {sorted(found - self._harmed)}, which nothing harmed"
            )
        shutil.rmtree(aside)

    def disturb_collect(self, kills: int) -> None:
        """Meet the aims at collecting, and collect in the end."""
        self._aims = [
            (COLLECTING, way) for way in itertools.islice(itertools.cycle(_MIX), -(-kills // len(PHASES)))
        ]
        while self._aims:
            command = self._start("collect", self.songs, "tracking.comet=false")
            kill = self._hit(command, self._aims[-1])
            self._ended(command, kill)
            self._check_collected()
        self._end_well(self._start("collect", self.songs, "tracking.comet=false"))

    def clean(self) -> None:
        """An hour later, remove what the kills left."""
        then = time.time() - 3600
        left = [path for path in self.songs.rglob("*") if durable.is_temporary(path)]
        for path in left:
            for old in (*path.rglob("*"), path):
                os.utime(old, (then, then))
        self._end_well(self._start("clean", self.songs, "--yes"))
        self._say(f"     reelmill clean removed {len(left)} temporaries")

    # A round: workers are started, and each is hit

    def _round(self, goals: int) -> None:
        """Start workers and hit each of them, the last time so that it ends."""
        if self.story.starts % 2:
            self._harm_any()
        commands = self._workers()
        self._chosen.shuffle(commands)
        ends = [(command, self._disturb(command, goals)) for command in commands]
        for command, kill in ends:
            self._ended(command, kill)
        self._check()
        if self._aims and self._finished("audio") == self._shards:
            self._make_work()

    def _workers(self) -> list[Command]:
        """One worker or two: on shares of their own, on the same one, or on a half each."""
        plain, begun = self._arguments(), self._finished("audio") > 0
        worlds: list[list[list[object]]] = [
            [["generate", *plain]],
            [["generate", *plain, "--shard", "0/2"], ["generate", *plain, "--shard", "1/2"]],
            [["generate", *plain], ["generate", *plain]],
            [["generate", *plain, "--no-audio"], ["render", self.songs]],
        ]
        # Sound alone needs a plan; a plan made without sound would be another.
        world = self._chosen.choice(worlds[: 3 + begun])
        return [self._start(*arguments, "songs.workers=1", "--json") for arguments in world]

    def _lose_a_worker(self) -> int:
        """Kill one of the two workers of a command, which goes on, and then all of it; 1 if both were met."""
        if self._finished("audio") == self._shards:
            self._make_work()
        command = self._start("generate", *self._arguments(), "songs.workers=2", "--json")
        while command.running and not command.workers:
            time.sleep(0.01)
        time.sleep(self._chosen.random() * _WORKERS_DELAY)
        workers = command.workers
        if not workers or not command.kill(self._chosen.choice(workers)):
            self._end_well(command)
            return 0
        self._note(Kill(BETWEEN, CHILD, command.name, (), False, self._finished("audio")))
        time.sleep(self._chosen.random() * _WORKERS_DELAY)
        command.kill_group()
        code = command.wait()
        if code not in (0, _CODES[GROUP]):
            raise Failure(f"{command}: exit code {code} after a worker was killed:\n{command.said()}")
        self._check()
        return 1

    def _note(self, kill: Kill) -> None:
        self.story.kills.append(kill)
        self._say(f"{len(self.story.kills):3}  {kill.describe()}")

    def _worker(self, room: int | None = None) -> Command:
        return self._start("generate", *self._arguments(), "songs.workers=1", "--json", room=room)

    def _arguments(self) -> list[object]:
        whole: list[object] = [self._run, "--songs", self._total, "--out", self.songs]
        return self._chosen.choice([whole, [self.songs]]) if self._finished("audio") else whole

    def _start(self, *arguments: object, room: int | None = None) -> Command:
        self.story.starts += 1
        log = self._place / "logs" / f"{self.story.starts}.log"
        return Command(log, *arguments, room=room)

    def _disturb(self, command: Command, goals: int) -> Kill | None:
        """Hit a worker until it must end; None if it comes to its end by itself."""
        while aims := self._possible(command):
            phase = self._chosen.choice([phase for phase, _ in aims])
            aim = self._chosen.choice([aim for aim in aims if aim[0] == phase])
            if phase != START_UP:
                self._wait_for_pace(command, goals)
            kill = self._hit(command, aim)
            if kill:
                return kill
            if not command.running:
                break
        return None

    def _possible(self, command: Command) -> list[Aim]:
        starting = [aim for aim in self._aims if aim[0] == START_UP]
        if START_UP in command.phases and starting and self._chosen.random() < 0.5 + (self.story.starts < 5):
            return starting
        never = {START_UP, *({RENDERING} if "--no-audio" in command.arguments else ())}
        never |= {SAMPLING} if command.name == "render" else set()
        return [aim for aim in self._aims if aim[0] not in never]

    def _wait_for_pace(self, command: Command, goals: int) -> None:
        """Spread what is hit over the whole corpus, however fast it is made."""
        kind: Kind = "text" if "--no-audio" in command.arguments else "audio"
        share = (goals - len(self._aims) + self._chosen.random()) / goals
        while command.running and self._finished(kind) < int(_PACED * self._shards * share):
            time.sleep(0.01)

    def _hit(self, command: Command, aim: Aim) -> Kill | None:
        """Do what ``aim`` says in its phase; None if the phase does not come."""
        phase = aim[0]
        step = self._step(command, aim)
        while command.running:
            phases = command.phases
            if phase == START_UP and START_UP not in phases:
                return None
            if phase in phases and command.step >= step:
                time.sleep(self._chosen.random() * _DELAYS[phase])
                if phase in command.phases:
                    return self._done(command, aim)
            time.sleep(0.0005)
        return None

    def _step(self, command: Command, aim: Aim) -> int:
        """How far start-up or collecting has to be."""
        if aim[0] == COLLECTING:
            return self._chosen.choice([self._chosen.randint(1, self._shards), self._shards + 1])
        if aim[0] != START_UP:
            return 0
        return next(self._first_steps)

    def _done(self, command: Command, aim: Aim) -> Kill | None:
        wanted, way = aim
        before, unlisted = command.phases, command.unlisted
        command.kill_group() if way == GROUP else command.send(_SIGNALS[way])
        if command.wait() != _CODES[way]:
            return None  # it had ended, or was about to
        seen = [phase for phase in PHASES if phase in before & command.phases]
        phase = wanted if wanted in seen else seen[-1] if seen else BETWEEN
        others = tuple(other for other in seen if other != phase)
        torn = unlisted and command.unlisted
        kill = Kill(phase, way, command.name, others, torn, self._finished("audio"))
        self._note(kill)
        if (phase, way) in self._aims:
            self._aims.remove((phase, way))
        return kill

    def _ended(self, command: Command, kill: Kill | None, codes: set[int] | None = None) -> None:
        """Wait for its end, which must be the one that was meant for it."""
        code, said = command.wait(), command.said()
        # Sound cannot be complete before the text is.
        wanted = codes or ({_CODES[kill.way]} if kill else {0, int(command.name == "render")})
        if code not in wanted or (code >= 0 and "Traceback" in said):
            cause = kill.describe() if kill else "nothing that should end it"
            raise Failure(f"{command}: exit code {code} after {cause}:\n{said}")

    def _end_well(self, command: Command) -> None:
        self._ended(command, None)
        self._check()

    # Harm to what lies there

    def _harm_any(self) -> None:
        self._harm_one(*next(self._harms))

    def _harm_one(self, name: str, kind: Kind) -> None:
        there = [number for number in shard_numbers(self.songs, kind) if (kind, number) not in self._harmed]
        if there:
            self._harm(name, kind, self._chosen.choice(sorted(there)))

    def _harm(self, name: str, kind: Kind, number: int) -> None:
        HARMS[name](self.songs, kind, number)
        self._harmed.add((kind, number))
        self.story.harms[f"{kind} {name}"] += 1

    def _make_work(self) -> None:
        """Songs have run out before kills: take some away, both halves."""
        for _ in range(max(4, self._shards // 10)):
            self._harm_one("tar removed", self._chosen.choice(KINDS))

    def _fill_disk(self, room: int, goals: int) -> None:
        """A worker meets a full disk and says so; where there is room again, work goes on."""
        room = min(room, 2 * self._expected["audio", 0]["bytes"])
        while self._room_wanted() < 2 * room:
            self._harm_one("tar removed", "audio")
        how = "a small tmpfs" if self._mounts else "ENOSPC raised in TarWriter"
        if not self._mounts:
            self._meet_full_disk(self._worker(room=room))
        else:
            home = self.songs
            with disk.moved(home, self._place / "disk") as (there, small):
                self.songs = there
                small.leave(room)
                self._meet_full_disk(self._worker())
                small.grow()
                self._round(goals)
            self.songs = home
        self.story.full_disks[how] += 1
        self._say(f"     disk full ({how}, {room >> 10} KiB left): said so, nothing lost")

    def _room_wanted(self) -> int:
        """Bytes of the tars that are not there, less what a worker will remove."""
        numbers = range(self._shards)
        absent = [number for number in numbers if not tar_path(self.songs, "audio", number).exists()]
        left = [path for path in (self.songs / "audio").glob(".*") if durable.is_temporary(path)]
        sizes = [self._expected["audio", number]["bytes"] for number in absent]
        return sum(sizes) - sum(path.stat().st_size for path in left)

    def _meet_full_disk(self, command: Command) -> None:
        before = {kind: shard_numbers(self.songs, kind) for kind in KINDS}
        code, said = command.wait(), command.said()
        if code not in (1, 2) or "the disk is full" not in said or "Traceback" in said:
            raise Failure(f"{command}: exit code {code} on a full disk:\n{said}")
        for kind, numbers in before.items():
            if lost := numbers - shard_numbers(self.songs, kind):
                raise Failure(f"{self.songs}: a full disk has cost {kind} shards {sorted(lost)}")
        self._check()

    # What must hold at any time

    def _finished(self, kind: Kind) -> int:
        return len(shard_numbers(self.songs, kind))

    def _check(self) -> None:
        """What counts is as it must be, unless it has been harmed; what has been made good is not harmed."""
        for kind in KINDS:
            for number in shard_numbers(self.songs, kind):
                expected = self._expected[kind, number]
                try:
                    check(self.songs, kind, number, expected["first"], expected["count"])
                    good = facts(self.songs, kind, number) == expected
                    if (kind, number) in self._harmed:
                        good = (
                            good and durable.sha256(tar_path(self.songs, kind, number)) == expected["sha256"]
                        )
                except DamagedError:
                    good = False
                if good:
                    self._harmed.discard((kind, number))
                elif (kind, number) not in self._harmed:
                    raise Failure(f"{tar_path(self.songs, kind, number)} counts and is not what it should be")

    def _check_collected(self) -> None:
        for name in ("index.parquet", "summary.json", "README.md"):
            path = self.songs / name
            if path.exists() and path.read_bytes() != (self._peace / name).read_bytes():
                raise Failure(f"{path}: not what it is of an undisturbed corpus")


_SIGNALS = {KILL: signal.SIGKILL, TERM: signal.SIGTERM}


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--songs", type=int, default=10_000, help="of the corpus")
    parser.add_argument("--kills", type=int, default=60, help="at least so many, a fifth in each phase")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of what is hit")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-generate-") as place:
        try:
            story = chaos(Path(place), options.songs, options.kills, len(_ROOMS), options.seed, _say)
        except Failure as failure:
            print(f"FAILED: {failure}", file=sys.stderr)
            return 1
    print(f"\n{story.table()}")
    print(f"verified; the same files as undisturbed, byte for byte; {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
