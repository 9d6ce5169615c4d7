"""Real tunes for these tests, and an empty cache where a test builds."""

from pathlib import Path

import pytest

from reelmill.corpus import named
from reelmill.corpus.books import read_book
from reelmill.errors import RequestError


@pytest.fixture(scope="session")
def irish() -> list[str]:
    """The 804 raw tunes of the named corpus."""
    return _tunes("irish")


@pytest.fixture(scope="session")
def traditional() -> list[str]:
    """The 4,248 raw tunes of the named corpus."""
    return _tunes("traditional")


def _tunes(name: str) -> list[str]:
    try:
        books = sorted(named.get(name).glob("*.abc"))
    except RequestError as error:
        pytest.skip(f"needs a network once: {error}")
    return [tune for book in books for tune in read_book(book)]


@pytest.fixture(autouse=True)
def own_data_sets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "huggingface")
