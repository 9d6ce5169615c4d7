"""What settings say that songs will take is about what songs of the corpus come to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reelmill.audio.encode import encode
from reelmill.audio.render import renderer
from reelmill.audio.settings import AudioSettings
from reelmill.config import Config
from reelmill.corpus.build import load_or_build
from reelmill.corpus.settings import CorpusSettings
from reelmill.sampling.settings import SamplingSettings
from reelmill.songs.make.validate import validate
from reelmill.songs.results.disk import CHARACTERS, foretell_disk
from reelmill.songs.store.song import Song, text_members

TUNE = "X:1\nT:Reel\nM:4/4\nL:1/8\nK:G\n|:" + "GABG d2BG|ABcA dcBA|" * 6 + ":|\n"


def unbuilt(place: Path) -> CorpusSettings:
    return CorpusSettings(source=str(place / "tunes.abc"), directory=str(place / "corpus"))


@pytest.mark.parametrize(
    "audio",
    [
        AudioSettings(),
        AudioSettings(format="flac"),
        AudioSettings(format="flac", channels=1, sample_rate=22050),
        AudioSettings(channels=1, sample_rate=8000),
    ],
)
def test_a_song_takes_about_what_was_foretold(audio: AudioSettings, tmp_path: Path) -> None:
    attempt = validate(TUNE, True, 3000)
    config = Config(corpus=unbuilt(tmp_path), audio=audio, sampling=SamplingSettings(max_length=len(TUNE)))
    assert len(TUNE) < CHARACTERS  # so that the estimate is of a song of this length
    foretold = foretell_disk(config, 1000)
    text = sum(
        512 + len(data)
        for _, (data,) in text_members(Song(id=0, facts=attempt.facts(0, 1), midi=attempt.data))
    )
    sound = len(encode(renderer(audio).render(attempt.data), audio))
    assert foretold.text == pytest.approx(1000 * text, rel=0.5)
    assert foretold.audio == pytest.approx(1000 * sound, rel=0.5)
    assert foretell_disk(config, 1000, audio=False).total == foretold.text


def test_a_built_corpus_says_how_long_songs_will_be(tmp_path: Path) -> None:
    corpus = unbuilt(tmp_path)
    short = "\n".join(
        f"X:{n}\nT:{n}\nM:4/4\nL:1/8\nK:G\n{'ABCDEFG'[n % 7]}GABG d2B{n % 9 + 1}|]\n" for n in range(30)
    )
    Path(str(corpus.source)).write_text(short)
    config = Config(corpus=corpus, audio=AudioSettings(format="wav"))
    before = foretell_disk(config, 100)
    load_or_build(corpus)
    after = foretell_disk(config, 100)
    assert after.audio < before.audio / 3 and after.text < before.text
    assert foretell_disk(replace(config, audio=AudioSettings(channels=1)), 100).audio < after.audio * 0.6
