"""Song i is a function of the plan: not of processes, slots, threads, order, halves, growth or neighbours."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from reelmill.audio import abc2midi
from reelmill.songs.check.verify import verify
from reelmill.songs.make.generate import generate
from reelmill.songs.make.render import render_directory
from reelmill.songs.store.manifest import manifest_path, tar_path
from reelmill.songs.store.plan import read_plan
from reelmill.songs.store.tar import TarReader
from tests.songs.conftest import SONGS, manifests, start, tars


def test_one_process_and_three_with_other_slots_and_threads(
    run: Path, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "songs"
    workers = [
        start(run, "--songs", SONGS, "--out", out, "--shard", f"{share}/3", f"sampling.slots={slots}",
              OMP_NUM_THREADS=threads)
        for share, slots, threads in [(0, 7, "1"), (1, 64, "2"), (2, 33, "1")]
    ]  # fmt: skip
    for worker in workers:
        _, said = worker.communicate()
        assert worker.returncode == 0, said.decode()
    assert tars(out) == tars(reference)
    assert manifests(out) == manifests(reference)
    assert verify(out).intact


def test_int8_on_processors_and_libraries_that_differ(run: Path, tmp_path: Path) -> None:
    """One directory by two of them, neither of which is warned, and it is what one of them makes."""
    command = ["--songs", SONGS, "--no-audio", "sampling.precision=int8"]
    here, both = tmp_path / "here", tmp_path / "both"
    workers = [start(run, "--out", here, *command)]
    elsewhere = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    for share, environment in (("0/2", {}), ("1/2", elsewhere)):
        workers.append(start(run, "--out", both, "--shard", share, *command, **environment))
    for worker in workers:
        _, said = worker.communicate()
        assert worker.returncode == 0 and b"processor" not in said, said.decode()
    assert tars(both) == tars(here) and manifests(both) == manifests(here)
    assert not {"processor", "device"} & read_plan(here).fingerprint["text"].keys()


@pytest.mark.parametrize(("tasks", "slots", "threads"), [(1, 256, 2), (2, 64, 1), (7, 256, 1), (7, 64, 2)])
def test_text_at_any_number_of_tasks_slots_and_threads(
    run: Path, reference: Path, tmp_path: Path, tasks: int, slots: int, threads: int
) -> None:
    out, before = tmp_path / "songs", torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        made = generate(
            run,
            out,
            songs=SONGS,
            audio=False,
            shard=(tasks - 1, tasks),  # its own shards first, and then the others' from the far end
            overrides=[f"sampling.slots={slots}"],
            progress=False,
        )
        assert made.complete
    finally:
        torch.set_num_threads(before)
    assert tars(out) == tars(reference, "text")


def test_text_now_and_sound_later_is_one_pass(run: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "songs"
    made = generate(run, out, songs=SONGS, audio=False, progress=False)
    assert made.complete and made.remaining == 0 and not (out / "audio").exists()
    assert verify(out).intact
    for share in (1, 0):
        assert render_directory(out, shard=(share, 2), progress=False).complete
    assert tars(out) == tars(reference)
    assert manifests(out) == manifests(reference)


def test_rendering_waits_for_no_text(run: Path, tmp_path: Path) -> None:
    """Shards without text are left, and said to be."""
    out = tmp_path / "songs"
    generate(run, out, songs=16, audio=False, progress=False)
    for path in (tar_path(out, "text", 1), manifest_path(out, "text", 1)):
        path.unlink()
    outcome = render_directory(out, progress=False)
    assert (outcome.made, outcome.complete, outcome.remaining) == ([0], False, 1)


@pytest.mark.parametrize(("before", "after"), [(8, 16), (13, 27)])
def test_growing_leaves_what_is_there(
    run: Path, reference: Path, tmp_path: Path, before: int, after: int
) -> None:
    out = tmp_path / "songs"
    generate(run, out, songs=before, progress=False)
    old = members(out)
    untouched = (out / "text" / "shard-000000.tar").stat()
    outcome = generate(out, songs=after, progress=False)
    assert outcome.complete and outcome.songs == after
    assert old.items() <= members(out).items()
    assert (out / "text" / "shard-000000.tar").stat() == untouched
    fresh = tmp_path / "fresh"
    generate(run, fresh, songs=after, progress=False)
    assert tars(out) == tars(fresh) and manifests(out) == manifests(fresh)
    assert members(out).items() <= members(reference).items()


def test_a_tune_that_breaks_abc2midi_changes_no_other_song(
    run: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool crashes on tunes with G4 twice in a row; those songs are other ones, the rest the same."""
    broken = "G4 G4"
    tool = tmp_path / "abc2midi"
    real = abc2midi.program()
    tool.write_text(
        f'#!/bin/sh\ngrep -q "{broken}" /dev/fd/3 2>/dev/null && kill -SEGV $$\nexec {real} "$@"\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("REELMILL_ABC2MIDI", str(tool))
    abc2midi.program.cache_clear()
    try:
        outcome = generate(run, tmp_path / "songs", songs=SONGS, audio=False, progress=False)
    finally:
        abc2midi.program.cache_clear()
    assert outcome.complete
    usual, changed = texts(reference), texts(tmp_path / "songs")
    hit = {song for song, abc in usual.items() if broken in abc}
    assert hit and len(hit) < SONGS / 2
    assert {song for song in usual if usual[song] != changed[song]} == hit
    assert not any(broken in abc for abc in changed.values())


def test_manifests_say_where_the_time_went(reference: Path) -> None:
    """Seconds by stage add up over all manifests of a worker, and the rest of ``made_by`` names it."""
    made_by = [json.loads(path.read_text())["made_by"] for path in reference.glob("*/shard-*.json")]
    assert {(maker["share"], maker["device"]) for maker in made_by} == {("0/1", "cpu")}
    for stage in ("sampling", "validating", "rendering", "writing"):
        assert all(maker["stages"][stage] >= 0 for maker in made_by)
        assert sum(maker["stages"][stage] for maker in made_by) > 0


def members(directory: Path) -> dict[str, bytes]:
    return {
        f"{path.parent.name}/{name}": data
        for path in sorted(directory.glob("*/*.tar"))
        for name, data in TarReader(path)
    }


def texts(directory: Path) -> dict[int, str]:
    facts = [json.loads(data) for name, data in members(directory).items() if name.endswith("json")]
    return {song["id"]: song["abc"] for song in facts}


def test_tar_programs_read_shards(reference: Path) -> None:
    path = reference / "audio" / "shard-000000.tar"
    listed = subprocess.run(
        ["tar", "-tvf", path], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    lines = listed.splitlines()
    assert [line.split()[-1] for line in lines[:3]] == ["000000000.abc", "000000000.json", "000000000.wav"]
    assert len(lines) == 24 and all(
        line.startswith("-rw-r--r-- 0/0") and "1970-01-01" in line for line in lines
    )
