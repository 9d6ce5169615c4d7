"""The children: what they lose is asked again, and they never outlive their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray

from reelmill.audio.process import ToolError
from reelmill.audio.render import Renderer
from reelmill.audio.settings import AudioSettings
from reelmill.errors import RequestError
from reelmill.songs.make import pool as pool_module
from reelmill.songs.make.pool import Pool
from reelmill.songs.make.validate import judge
from reelmill.songs.store.sound import record

GOOD = "X:1\nT:Reel\nM:4/4\nL:1/8\nK:G\n|:GABG d2BG|ABcA dcBA|GABG d2BG|dcBA G4:|\n"
SOUND = AudioSettings(sample_rate=8000, channels=1)


def test_judged_and_recorded_as_in_this_process() -> None:
    with Pool(SOUND, 2) as pool:
        judgements = [pool.judge(GOOD, True, 200) for _ in range(5)]
        here = judge(GOOD, True, 200)
        assert all(judgement.result() == here for judgement in judgements)
        facts = here.facts(3, 1)
        first, second = pool.record(facts, here.data).result(), pool.record(facts, here.data).result()
        assert first == second and bytes(first.data[:4]) == b"RIFF"
        assert first.facts["duration_seconds"] == 17.0 and first.facts["id"] == 3


def children(pool: Pool) -> list[int]:
    return [child._process.pid for child in pool._children]


def test_a_lost_child_is_replaced_and_its_request_asked_again() -> None:
    with Pool(None, 1) as pool:
        expected = pool.judge(GOOD, True, 200).result()
        for _ in range(2):
            os.kill(children(pool)[0], signal.SIGKILL)
            assert pool.judge(GOOD, True, 200).result() == expected


def test_what_always_kills_the_child_is_a_fault_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "abc2midi"
    tool.write_text("#!/bin/sh\nkill -KILL $PPID\n")
    tool.chmod(0o755)
    monkeypatch.setenv("REELMILL_ABC2MIDI", str(tool))
    with Pool(None, 1) as pool, pytest.raises(ToolError, match="lost 3 times"):
        pool.judge(GOOD, True, 200).result()


def end_children(monkeypatch: pytest.MonkeyPatch, *how: signal.Signals) -> None:
    """Have children end by these signals, one after the other, when they are asked something."""
    coming = list(how)
    ask = pool_module._Child.ask

    def asked(child: Any, *given: Any) -> Any:
        if coming:
            os.kill(child._process.pid, coming.pop(0))
        return ask(child, *given)

    monkeypatch.setattr(pool_module._Child, "ask", asked)


def test_midi_that_crashes_the_synthesizer_twice_has_no_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would crash it for ever, on any machine: that is the song's fault, and the next one is recorded."""
    judgement = judge(GOOD, True, 200)
    facts = judgement.facts(3, 1)
    with Pool(SOUND, 1) as pool:
        end_children(monkeypatch, signal.SIGSEGV, signal.SIGSEGV)
        sound = pool.record(facts, judgement.data).result()
        assert (sound.failure, sound.data) == ("the synthesizer ended by SIGSEGV", b"")
        assert not pool.record(facts, judgement.data).result().failure


def test_what_the_synthesizer_stumbles_over_has_no_sound() -> None:
    class Stumbling:
        def render(self, midi: bytes) -> NoReturn:
            raise RuntimeError("unexpected event")

    facts = judge(GOOD, True, 200).facts(3, 1)
    sound = record(facts, b"MThd", Stumbling(), SOUND)  # type: ignore[arg-type]
    assert (sound.failure, sound.pieces) == ("cannot be played (RuntimeError)", ())


def test_a_shard_may_be_examined_for_as_long_as_the_disk_takes(
    songs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_SECONDS", 1e-6)
    with Pool(None, 1) as pool:
        assert pool.examine(songs, 3, 24, 8, ".wav").result().songs == 8


def test_children_that_are_killed_say_nothing_about_a_song(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a machine that is short of memory kills them; nor do crashes while a tune is judged."""
    judgement = judge(GOOD, True, 200)
    with Pool(SOUND, 1) as pool:
        end_children(monkeypatch, signal.SIGKILL, signal.SIGKILL)
        assert not pool.record(judgement.facts(3, 1), judgement.data).result().failure
    with Pool(SOUND, 1) as pool:
        end_children(monkeypatch, signal.SIGSEGV, signal.SIGSEGV)
        assert pool.judge(GOOD, True, 200).result() == judgement


def test_a_wrong_request_comes_back_as_one() -> None:
    with (
        Pool(AudioSettings(soundfont="/nowhere.sf2"), 1) as pool,
        pytest.raises(RequestError, match="nowhere"),
    ):
        pool.record(judge(GOOD, True, 200).facts(0, 1), b"").result()


def test_children_end_when_their_parent_is_killed() -> None:
    program = (
        "import sys, time; from reelmill.songs.make.pool import Pool; pool = Pool(None, 2)\n"
        f"print([pool.judge({GOOD!r}, True, 200).result().notes for _ in range(4)], flush=True)\n"
        "print(*[child._process.pid for child in pool._children], flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    assert parent.stdout.readline() == "[54, 54, 54, 54]\n"
    pids = [int(word) for word in parent.stdout.readline().split()]
    parent.kill()
    parent.communicate()
    assert pids
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Mute:
    """A synthesizer that plays nothing."""

    def synthesize(self, midi: bytes, seconds: float) -> NDArray[np.float32]:
        return np.zeros((8000, 1), np.float32)

    def version(self) -> str:
        return "mute"


def test_silence_and_what_cannot_be_heard_are_failures() -> None:
    judgement = judge(GOOD, True, 200)
    facts = judgement.facts(0, 1)
    renderer = Renderer(Mute(), 8000)
    assert record(facts, judgement.data, renderer, SOUND).failure == "silent"
    assert record({**facts, "notes": 0}, judgement.data, renderer, SOUND).failure == "no notes"
    assert (
        record({**facts, "midi_seconds": 1e6}, judgement.data, renderer, SOUND).failure
        == "longer than 600 seconds"
    )
