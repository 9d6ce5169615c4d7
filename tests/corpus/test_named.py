"""Named corpora: the same tunes everywhere, downloaded once, nothing installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reelmill.corpus import named
from reelmill.corpus.books import read_book
from reelmill.errors import RequestError

GET = "import sys; from reelmill.corpus.named import get; print(get(sys.argv[1]))"


def start(name: str, cache: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", GET, name],
        env={**os.environ, "REELMILL_CACHE": str(cache), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def tunes_in(directory: Path) -> int:
    return sum(1 for book in directory.glob("*.abc") for _ in read_book(book))


def test_the_named_corpora_hold_what_they_say(irish: list[str], traditional: list[str]) -> None:
    assert len(irish) == 804 and "804" in named.NAMES["irish"].description
    assert len(traditional) == 4248 and "4,248" in named.NAMES["traditional"].description
    assert len(set(traditional)) > 4200


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("irish", 804), ("traditional", 4248)])
def test_two_processes_may_fetch_at_once(name: str, count: int, irish: list[str], tmp_path: Path) -> None:
    both = [start(name, tmp_path), start(name, tmp_path)]
    answers = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    directory = Path(answers[0][0].strip())
    assert tmp_path in directory.parents
    assert tunes_in(directory) == count
    assert {path.name for path in directory.parent.iterdir()} == {name, f".{name}.lock"}
    assert importlib.util.find_spec("mitdeeplearning") is None


@pytest.mark.slow
def test_a_damaged_copy_is_fetched_again(
    irish: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path))
    book = named.get("traditional") / "ryans-mammoth.abc"
    whole = book.read_bytes()
    book.write_bytes(whole[: len(whole) // 2])
    assert (named.get("traditional") / "ryans-mammoth.abc").read_bytes() == whole


def test_without_a_network_the_error_says_what_to_do_and_a_cached_copy_needs_none(
    irish: list[str], tmp_path: Path
) -> None:
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    cold = start("irish", tmp_path, **offline)
    _, error = cold.communicate(timeout=300)
    assert cold.returncode != 0
    assert "RequestError" in error and "REELMILL_CACHE" in error and str(tmp_path) in error
    assert not (tmp_path / "named" / "irish").exists()

    warm = start("irish", named.cache_directory(), **offline)
    answer, _ = warm.communicate(timeout=60)
    assert tunes_in(Path(answer.strip())) == len(irish)


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(RequestError, match=r"'irsh'.*irish, traditional"):
        named.get("irsh")
