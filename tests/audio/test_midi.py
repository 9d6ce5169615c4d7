"""MIDI is a function of the tune's text, and its facts agree with an independent reader."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from symusic import Score

from reelmill.audio import abc2midi
from reelmill.audio.midi import LONGEST, abc_to_midi, excess, midi_problem, read_midi
from reelmill.audio.process import Limits, ToolError, run
from reelmill.errors import RequestError

HEADER = "X:1\nM:4/4\nL:1/8\nK:C\n"


def test_real_tunes_are_songs_and_their_facts_agree_with_symusic(tune: str) -> None:
    midi = abc_to_midi(tune)
    assert midi_problem(midi) == ""
    score = Score.from_midi(midi.data)
    assert midi.notes == score.note_num()
    assert midi.seconds == pytest.approx(score.to("Second").end(), abs=1e-3)
    assert midi.tempo == pytest.approx(score.tempos[0].qpm)


def test_same_text_gives_same_bytes_in_another_place_and_environment(
    tune: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = abc_to_midi(tune).data
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    script = (
        "import sys; from reelmill.audio.midi import abc_to_midi; "
        "sys.stdout.buffer.write(abc_to_midi(sys.stdin.read()).data)"
    )
    other = subprocess.run(
        [sys.executable, "-c", script], input=tune.encode(), capture_output=True, check=True
    )
    assert other.stdout == first
    assert list(tmp_path.iterdir()) == []


def test_the_number_line_ends_and_instructions_of_a_tune_change_nothing(hornpipe: str) -> None:
    expected = abc_to_midi(hornpipe).data
    assert abc_to_midi(hornpipe.replace("X:1", "X:4711")).data == expected
    assert abc_to_midi(hornpipe.replace("\n", "\r\n")).data == expected
    assert abc_to_midi(hornpipe.replace("(3ABc|dA", "%%MIDI program 40\n(3ABc|dA")).data == expected
    assert abc_to_midi(hornpipe.replace("fefd|(3efe", "fefd|%%MIDI transpose 3\n(3efe", 1)).data == expected
    assert abc_to_midi(hornpipe + "\n\nX:2\nK:C\nCDEF|\n").data == expected


def test_errors_are_told_as_abc2midi_says_them(hornpipe: str) -> None:
    midi = abc_to_midi(hornpipe + '[CEG "Am\n')
    assert any(line.startswith("Error in line-char 10-") for line in midi.errors)
    assert midi_problem(midi).startswith("abc2midi: ")
    assert "line-char" not in midi_problem(midi)


@pytest.mark.parametrize(
    "text", ["", "\n\n", "no tune at all", "X:1\nT:no key\nCDEF|\n", "T:no number\nK:C\nCDEF|\n"]
)
def test_text_that_is_no_tune_gives_no_midi_and_a_reason(text: str) -> None:
    midi = abc_to_midi(text)
    assert midi.data == b"" and midi.notes == 0
    assert midi_problem(midi)


def test_short_long_and_rushed_tunes_are_no_songs(short_tune: str, hornpipe: str) -> None:
    assert midi_problem(abc_to_midi(short_tune)) == "fewer than 16 notes"
    slow = hornpipe.replace("K:D", "Q:1/4=21\nK:D").replace("L:1/8", "L:1/1")
    assert midi_problem(abc_to_midi(slow)) == f"longer than {LONGEST:.0f} seconds"
    assert "tempo" in midi_problem(abc_to_midi(hornpipe.replace("K:D", "Q:1/4=900\nK:D")))


@pytest.mark.parametrize(
    "hostile",
    [
        HEADER + "C99999999 D|",
        HEADER + "Z999|" * 100,
        HEADER + "abc " * 20_000,
        HEADER.replace("K:C", "P:A9(B9C9)9\nK:C") + "P:A\nabcd|\n",
        HEADER.replace("K:C", "P:A9999\nK:C") + "P:A\nz|\n",
    ],
    ids=["note length", "bars of rest", "characters", "parts", "part"],
)
def test_what_would_take_abc2midi_out_of_proportion_is_refused_by_its_content(hostile: str) -> None:
    assert excess(hostile)
    assert midi_problem(abc_to_midi(hostile)) == f"abc2midi: {excess(hostile)}"


def test_numbers_in_text_for_people_are_no_excess() -> None:
    assert excess("X:4711\nT:The Year 1798\nB:O'Neill's 1850\nK:C\nC8|") == ""


def test_a_tune_that_runs_away_is_judged_by_its_content_and_changes_no_other(hornpipe: str) -> None:
    before = abc_to_midi(hornpipe)
    runaway = abc_to_midi(HEADER + ("|:" + "A" * 60 + ":|\n") * 700)
    assert "exit code 1" in midi_problem(runaway)
    assert abc_to_midi(hornpipe) == before


def _program(path: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    monkeypatch.setenv(abc2midi.ENVIRONMENT, str(path))


@pytest.fixture
def fresh_program() -> object:
    abc2midi.program.cache_clear()
    yield None
    abc2midi.program.cache_clear()


@pytest.mark.usefixtures("fresh_program")
def test_a_clock_that_runs_out_is_a_fault_of_the_machine(
    hornpipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path / "slow", "exec sleep 60", monkeypatch)
    with pytest.raises(ToolError, match="took too long, took too long, took too long"):
        abc_to_midi(hornpipe, timeout=0.1)


@pytest.mark.usefixtures("fresh_program")
def test_a_program_killed_by_the_machine_is_run_again(
    hornpipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = abc_to_midi(hornpipe)
    real = abc2midi.program()
    abc2midi.program.cache_clear()
    once = tmp_path / "once"
    _program(
        tmp_path / "flaky",
        f'[ -e {once} ] || {{ : > {once}; kill -KILL $$; }}\nexec {real} "$@"',
        monkeypatch,
    )
    assert abc_to_midi(hornpipe) == expected
    assert once.exists()


@pytest.mark.usefixtures("fresh_program")
def test_a_crash_that_comes_again_is_a_property_of_the_tune(
    hornpipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path / "crashing", "kill -SEGV $$", monkeypatch)
    assert midi_problem(abc_to_midi(hornpipe)) == "abc2midi: abc2midi ended by SIGSEGV"


@pytest.mark.usefixtures("fresh_program")
def test_missing_program_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hornpipe: str) -> None:
    monkeypatch.setenv(abc2midi.ENVIRONMENT, str(tmp_path / "none"))
    with pytest.raises(RequestError, match="abcmidi"):
        abc_to_midi(hornpipe)


def test_the_version_names_the_program() -> None:
    assert "abc2midi" in abc2midi.version()


def test_limits_hold_and_notices_to_stop_are_held_back(tmp_path: Path) -> None:
    limits = Limits(seconds=20, cpu_seconds=1, memory=256 << 20, file_size=1 << 20)
    spin = run([sys.executable, "-c", "while True: pass"], limits)
    assert (spin.code, spin.by_machine) == (-signal.SIGXCPU, False)
    greedy = run([sys.executable, "-c", "import time; time.sleep(0.3); bytearray(1 << 30)"], limits)
    assert b"MemoryError" in greedy.output
    writer = "import os, time; time.sleep(0.3); [os.write(1, bytes(1 << 16)) for _ in range(99)]"
    assert (
        run(["/bin/sh", "-c", "while :; do echo 0123456789012345678901234567890123456789; done"], limits).code
        < 0
    )
    assert len(run([sys.executable, "-c", writer], limits).output) <= 1 << 20
    noticed = run(["/bin/sh", "-c", "kill -TERM $$; kill -USR1 $$; echo done"], limits)
    assert (noticed.code, noticed.output) == (0, b"done\n")


def test_a_program_leaves_no_descriptor_open(hornpipe: str) -> None:
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    for _ in range(5):
        abc_to_midi(hornpipe)
    after = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    assert after == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("cut", [0, 5, 13, 30, 60, -1])
def test_a_broken_midi_file_is_refused(cut: int, hornpipe: str) -> None:
    data = abc_to_midi(hornpipe).data
    with pytest.raises(ValueError, match="MIDI"):
        read_midi(data[:cut] if cut else b"RIFF" + data[4:])
