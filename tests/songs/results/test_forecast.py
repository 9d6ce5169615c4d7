"""What is foretold of a plan is what it comes to."""

import json
import re
from pathlib import Path

import pytest

from reelmill.cli import main
from reelmill.errors import RequestError
from reelmill.songs.make.generate import generate
from reelmill.songs.results.collect import collect
from reelmill.songs.results.forecast import estimate, estimate_rest
from reelmill.songs.store.manifest import manifest_path, read_manifest
from tests.songs.conftest import SONGS


def tar_bytes(directory: Path) -> dict[str, int]:
    return {
        kind: sum(path.stat().st_size for path in (directory / kind).glob("*.tar"))
        for kind in ("text", "audio")
    }


def test_disk_attempts_and_length_are_foretold(run: Path, songs: Path, tmp_path: Path) -> None:
    foretold = estimate(run, tmp_path / "not" / "yet", SONGS, sample=24)
    summary = collect(songs)
    # Each tar is filled up to 10 KiB, which matters only for shards as small as these.
    assert foretold.text_bytes == pytest.approx(summary["bytes"]["text"], rel=0.3)
    assert foretold.audio_bytes == pytest.approx(summary["bytes"]["audio"], rel=0.1)
    assert foretold.characters == pytest.approx(summary["distributions"]["characters"]["mean"], rel=0.1)
    assert foretold.attempts_per_song == pytest.approx(summary["attempts"]["made"] / SONGS, rel=0.2)
    assert foretold.fits and "are free" in foretold.describe()
    assert not list(tmp_path.glob("not*"))


def test_hours_are_foretold_with_their_spread(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = estimate(run, tmp_path, 10**6, sample=16)
    few = estimate(run, tmp_path, 10**6, audio=False, sample=16)
    low, high = many.processor_hours
    assert 0 < low < high and 0 < few.processor_hours[0] < high
    shown = re.search(r"time: ([\d.,]+) to ([\d.,]+) (hours|minutes) with", many.describe())
    assert shown and 0 < float(shown[1].replace(",", "")) < float(shown[2].replace(",", ""))
    assert main(["generate", str(run), "--out", str(tmp_path / "new"), "--songs", "8", "--dry-run"]) == 0
    assert " processors like these" in capsys.readouterr().out


def test_failures_and_a_small_disk_are_foretold(run: Path, tmp_path: Path) -> None:
    overrides = ["songs.max_attempts=1", "songs.require=bars", "audio.sample_rate=96000", "audio.channels=2"]
    foretold = estimate(run, tmp_path, 10**9, overrides)
    assert foretold.failures > 10**6 and not foretold.fits
    assert "will have no song" in foretold.describe() and "does not fit" in foretold.describe()


def test_what_a_directory_lacks_is_foretold(songs: Path) -> None:
    """Of twice the songs, half are there, and a shard of them without sound."""
    before = {path: path.stat().st_mtime_ns for path in songs.rglob("*")}
    bytes_ = tar_bytes(songs)
    foretold = estimate_rest(songs, 2 * SONGS, sample=24)
    assert foretold.songs == SONGS
    assert foretold.text_bytes == pytest.approx(bytes_["text"], rel=0.3)
    assert foretold.audio_bytes == pytest.approx(bytes_["audio"], rel=0.1)
    assert estimate_rest(songs, sample=2).songs == 0
    assert {path: path.stat().st_mtime_ns for path in songs.rglob("*")} == before
    count = read_manifest(songs, "audio", 1).songs
    manifest_path(songs, "audio", 1).unlink()
    part = estimate_rest(songs, sample=8)
    assert part.songs == count and part.text_bytes == 0 < part.audio_bytes
    assert estimate_rest(songs, audio=False, sample=2).songs == 0


def test_ids_that_are_declared_to_have_no_song_are_not_to_come(run: Path, tmp_path: Path) -> None:
    overrides = ["songs.max_attempts=1", "songs.require=bars"]
    outcome = generate(run, tmp_path, songs=SONGS, overrides=overrides, audio=False, progress=False)
    foretold = estimate_rest(tmp_path, sample=2)
    assert outcome.failed and (foretold.songs, foretold.text_bytes, foretold.failures) == (0, 0, 0)


def test_other_settings_than_the_plan_has_are_refused(songs: Path, run: Path) -> None:
    with pytest.raises(RequestError, match=r"sampling\.temperature"):
        estimate_rest(songs, overrides=["sampling.temperature=0.5"])
    with pytest.raises(RequestError, match="not a songs directory"):
        estimate_rest(run)


def test_no_songs_and_another_checkpoint_are_refused(run: Path, songs: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="at least 1"):
        estimate(run, tmp_path / "songs", 0)
    with pytest.raises(RequestError, match="at least 1"):
        estimate_rest(songs, 0)
    with pytest.raises(RequestError, match="its own copy of the model"):
        estimate_rest(songs, checkpoint="step-000001")


def test_the_command_looks_at_what_is_there(
    run: Path, songs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grown = ["--songs", str(SONGS + 8), "--dry-run", "--json"]
    for arguments in ([str(songs), *grown], [str(run), "--out", str(songs), *grown]):
        assert main(["generate", *arguments]) == 0
        assert json.loads(capsys.readouterr().out)["songs"] == 8
    assert main(["generate", str(run), "--out", str(tmp_path / "new"), "--dry-run"]) == 2
    assert "needs --songs" in capsys.readouterr().err
