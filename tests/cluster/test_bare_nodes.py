"""A node whose home is read-only and whose caches are cold trains, makes songs, collects and publishes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from reelmill.songs.check.verify import verify

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "configs" / "cluster" / "local.yaml"
MOUNT = 'mount --bind "$HOME" "$HOME" && mount -o remount,bind,ro "$HOME" && ! touch "$HOME/a" && exec "$@"'


def test_a_home_that_is_read_only(tmp_path: Path, can_mount: None) -> None:
    (tmp_path / "home").mkdir()
    tunes = (f"X:{n}\nT:Reel\nM:4/4\nL:1/8\nK:G\nGABG d2B{'ABCDEFG'[n % 7]}|]\n" for n in range(1, 41))
    (tmp_path / "tunes.abc").write_text("\n".join(tunes))
    recipe = {
        "corpus": {"source": str(tmp_path / "tunes.abc"), "directory": str(tmp_path / "corpus")},
        "model": {"embedding_size": 8, "hidden_size": 32},
        "training": {"steps": 4, "batch_size": 4, "sequence_length": 40, "checkpoint_every": 4},
        "sampling": {"max_length": 60, "slots": 32},
        "songs": {"songs_per_shard": 8, "max_attempts": 1, "require": "none"},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run, songs = tmp_path / "run", tmp_path / "songs"
    on_node(tmp_path, "train", tmp_path / "recipe.yaml", "--run", run)
    on_node(tmp_path, "generate", run, "--songs", 16, "--out", songs, "--no-audio")
    assert verify(songs).intact
    assert (songs / "report.html").stat().st_size and not (songs / "comet").exists()


def on_node(place: Path, job: str, *arguments: object) -> None:
    command = [sys.executable, "-m", f"jobs.{job}", *map(str, arguments), "--cluster", str(LOCAL)]
    caches = ("XDG_CACHE_HOME", "REELMILL_CACHE", "NUMBA_CACHE_DIR", "MPLCONFIGDIR", "COMET_API_KEY")
    environment = {name: value for name, value in os.environ.items() if name not in caches}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", MOUNT, "sh", *command],
        env={**environment, "HOME": str(place / "home"), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
