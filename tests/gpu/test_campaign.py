"""``make gpu`` without a GPU: the campaign runs, and says what it found and what it did not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reelmill.corpus import named
from reelmill.errors import RequestError

CAMPAIGN = Path(__file__).with_name("run.py")


def campaign(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The campaign with ``arguments`` and changes of the environment, when it has ended."""
    words = [sys.executable, str(CAMPAIGN), *arguments]
    return subprocess.run(words, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.fixture(scope="module")
def irish():
    """The corpus that the campaign trains on is at hand."""
    try:
        named.get("irish")
    except RequestError as error:
        pytest.skip(f"needs a network once: {error}")


@pytest.mark.slow
def test_a_part_of_the_campaign_on_the_cpu(irish):
    ended = campaign("--device", "cpu", "--only", "resume")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = [line for line in ended.stdout.splitlines() if line.startswith("| killed")]
    assert len(rows) == 2 and all(line.endswith("| PASS |") for line in rows)
    assert "no GPU" in ended.stdout


@pytest.mark.slow
def test_the_songs_of_the_campaign_on_the_cpu(irish):
    ended = campaign("--device", "cpu", "--only", "same", "--only", "strides", "--only", "busy")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert [
        line.endswith("| PASS |") for line in ended.stdout.splitlines() if line.startswith("| songs")
    ] == [
        True,
        True,
    ]


def test_a_command_that_fails_fails_the_campaign(irish):
    ended = campaign("--device", "cpu", "--only", "precision", WORLD_SIZE="2")
    assert ended.returncode == 1
    assert "MASTER_ADDR is not set" in ended.stdout and ended.stdout.rstrip().endswith("| FAIL |")


def test_without_a_gpu_the_campaign_says_so():
    ended = campaign()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1 and "no GPU" in ended.stderr
