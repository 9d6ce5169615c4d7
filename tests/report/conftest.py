from pathlib import Path

import pytest
from written_directories import write_run, write_songs


@pytest.fixture(scope="session")
def songs_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty songs with audio, one of them failed, made by a run that is still there."""
    place = tmp_path_factory.mktemp("report")
    return write_songs(place / "evening", 40, 8, audio=True, run=str(write_run(place / "run")))
