"""The report, opened in a real browser."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Page, find_chromium
from written_directories import HOSTILE, HOSTILE_SONG, write_run, write_songs

from reelmill.audio.midi import abc_to_midi
from reelmill.report.engraving import engrave
from reelmill.report.page import SAMPLE, write_report
from reelmill.report.songs import read_songs
from reelmill.songs.results.collect import collect

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    assert CHROMIUM is not None
    page = Page(CHROMIUM, tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture(scope="module")
def report(songs_directory: Path) -> Path:
    return write_report(songs_directory)


def column(page: Page, heading: str) -> list[Any]:
    script = """[...document.querySelectorAll("#table tbody tr")].map(row => {
        const place = [...document.querySelectorAll("#table thead tr > *")]
            .findIndex(cell => cell.textContent.trim() == %s);
        const cell = row.cells[place];
        return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
    })"""
    return page.evaluate(script % json.dumps(heading))


def test_table_players_and_notation_are_there_and_nothing_else_is_fetched(page: Page, report: Path) -> None:
    page.errors.clear()
    page.requests.clear()
    page.open(report)
    songs = list(read_songs(report.parent).sample(SAMPLE))
    titles = [song.facts["title"] for song in songs]
    assert len(titles) == SAMPLE
    assert column(page, "Title") == titles
    assert column(page, "Key") == [song.facts["key"] for song in songs]

    # Every player decodes: its length is the song's (MP3 adds less than a tenth of a second).
    players = page.evaluate("""Promise.all([...document.querySelectorAll("audio")].map(audio =>
        new Promise(resolve => {
            const done = () => resolve([audio.readyState, audio.duration, audio.error?.message ?? null]);
            audio.addEventListener("canplaythrough", done);
            audio.addEventListener("error", done);
            audio.preload = "auto";
            audio.load();
        })))""")
    assert [error for _, _, error in players] == [None] * SAMPLE
    assert min(state for state, _, _ in players) >= 3
    seconds = [song.facts["duration_seconds"] for song in songs]
    assert [duration for _, duration, _ in players] == pytest.approx(seconds, abs=0.1)

    images = page.evaluate("""[...document.images].map(image =>
        [image.complete, image.naturalWidth, image.naturalHeight, image.alt])""")
    assert len(images) == SAMPLE
    assert all(complete and width > 100 and height > 30 for complete, width, height, _ in images)
    assert [alt for *_, alt in images] == [f"Engraved notation of {title}" for title in titles]
    assert page.evaluate("[...document.querySelectorAll('pre')].map(pre => pre.textContent)") == [
        song.facts["abc"] for song in songs
    ]

    assert page.errors == []
    outside = [url for url in page.requests if not url.startswith(("data:", report.resolve().as_uri()))]
    assert outside == []
    fetched = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in fetched if not name.startswith("data:")] == []


def test_a_song_can_be_heard_from_the_table_one_at_a_time(page: Page, report: Path) -> None:
    page.errors.clear()
    page.open(report)
    heard = page.evaluate("""(async () => {
        const [first, second] = document.querySelectorAll("[data-play]");
        const player = button => document.getElementById(button.dataset.play).querySelector("audio");
        const playing = audio => new Promise(resolve => audio.addEventListener("timeupdate", resolve));
        first.click();
        await playing(player(first));
        const moved = player(first).currentTime > 0 || !player(first).paused;
        second.click();
        await playing(player(second));
        return [moved, player(first).paused, !player(second).paused, first.getAttribute("aria-pressed"),
                second.getAttribute("aria-pressed")];
    })()""")
    assert heard == [True, True, True, "false", "true"]
    assert page.errors == []


def test_a_heading_sorts_by_its_column_both_ways(page: Page, report: Path) -> None:
    page.open(report)
    for heading in ("Duration", "Tempo", "Loudness", "Title"):
        ordered = sorted(column(page, heading))
        click = f"""[...document.querySelectorAll("#table th button")]
            .find(button => button.textContent == {json.dumps(heading)}).click()"""
        page.evaluate(click)
        ascending = column(page, heading)
        page.evaluate(click)
        descending = column(page, heading)
        if heading == "Title":  # the browser's own order of punctuation
            assert sorted(ascending) == ordered and descending[0] == ascending[-1]
        else:
            assert ascending == ordered and descending == ordered[::-1]
    assert page.evaluate("document.querySelectorAll('#table th[aria-sort]').length") == 1


def test_a_hostile_title_stays_text(page: Page, report: Path) -> None:
    page.open(report)
    heading = page.evaluate(f"document.querySelector('#song-{HOSTILE_SONG:09d} h3').textContent")
    assert heading == HOSTILE
    assert page.evaluate("document.title").startswith("evening")
    assert page.evaluate("document.scripts.length") == 1
    assert page.evaluate("document.querySelectorAll('[onerror]').length") == 0


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_window(page: Page, report: Path, width: int) -> None:
    page.open(report, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelectorAll('h1').length") == 1
    assert page.evaluate("[...document.images].every(image => image.alt)")
    labels = "[...document.querySelectorAll('figure svg')].map(svg => svg.getAttribute('aria-label'))"
    plots = page.evaluate(labels)
    assert any(label.startswith("Duration of 39 songs") for label in plots)
    assert any(label.startswith("Bits per character: ") for label in plots)  # of the run that made the model
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(item => item.id)")
    assert len(ids) == len(set(ids))


def test_a_phone_shows_bars_and_captions_whole(page: Page, tmp_path: Path) -> None:
    songs = write_songs(tmp_path / "songs", 16, 8, audio=True, run=str(write_run(tmp_path / "run")))
    rates = {"headers": 1.0, "midi": 0.9975, "bars": 0.9975}
    (songs / "tunes.json").write_text(json.dumps({"tunes": 400, "pass_rate": rates}))
    page.open(write_report(songs), width=390)
    bars = page.evaluate("[...document.querySelectorAll('.meter div')].map(bar => bar.clientWidth)")
    assert len(bars) == 6 and min(bars) > 120
    said = "h1, h2:not(.hidden), h3, figcaption, .note, .tiles dd, .tiles dt, .facts, .rates td, .files"
    cut = page.evaluate(f"""[...document.querySelectorAll("{said}")].filter(item => {{
        const place = item.getBoundingClientRect();
        return place.right > 390 || place.left < 0 || item.scrollWidth > item.clientWidth + 1;
    }}).map(item => item.textContent)""")
    assert cut == []
    small = """[...document.querySelectorAll('figure svg text')]
        .filter(text => text.textContent && text.getBoundingClientRect().height < 10)"""
    assert page.evaluate(f"{small}.map(text => text.textContent)") == []


def test_abc_and_midi_can_be_saved(page: Page, report: Path) -> None:
    page.open(report)
    songs = {f"{song.facts['id']:09d}": song for song in read_songs(report.parent).sample(SAMPLE)}
    saved = page.evaluate("""Promise.all([...document.querySelectorAll("a[download]")].map(async link =>
        [link.download, link.href.split(",")[1]]))""")
    files = {name: base64.b64decode(content) for name, content in saved}
    book = files.pop("evening.abc").decode()
    assert len(files) == 2 * SAMPLE
    for name, song in songs.items():
        assert files[f"{name}.abc"].decode() == song.facts["abc"] and song.facts["abc"] in book
        assert files[f"{name}.mid"] == abc_to_midi(song.facts["abc"]).data


def test_the_bar_that_fails_is_marked(page: Page, report: Path) -> None:
    page.open(report)
    marked = page.evaluate("[...document.querySelectorAll('pre mark')].map(mark => mark.textContent)")
    waltzes = [song for song in read_songs(report.parent).sample(SAMPLE) if not song.facts["bars"]]
    assert marked == ["e4"] * len(waltzes) and waltzes
    assert page.evaluate("document.body.innerText").count("bar 2 lasts 2/4 of 3/4") == len(waltzes)
    assert all("✗" in engrave(song.facts["abc"], song.facts["abc"].index("e4")).svg for song in waltzes)


def test_songs_without_audio_say_so(page: Page, tmp_path: Path) -> None:
    page.errors.clear()
    page.open(write_report(write_songs(tmp_path / "silent", 6, 3, audio=False)))
    assert page.evaluate("document.querySelectorAll('audio').length") == 0
    assert page.evaluate("document.body.innerText.split('No audio has been rendered').length - 1") == 5
    assert page.errors == []


def test_a_run_shows_its_curves(page: Page, tmp_path: Path) -> None:
    page.errors.clear()
    page.open(write_report(write_run(tmp_path / "run")))
    captions = page.evaluate("[...document.querySelectorAll('figcaption')].map(item => item.textContent)")
    assert captions == ["Bits per character", "Characters per second"]  # the learning rate is one line
    assert page.errors == []


def test_songs_that_are_collected_show_their_music(page: Page, tmp_path: Path) -> None:
    songs = write_songs(tmp_path / "songs", 6, 3, audio=False)
    collect(songs)
    page.errors.clear()
    page.open(write_report(songs), width=390)
    heads = page.evaluate("[...document.querySelectorAll('.music tbody th')].map(item => item.textContent)")
    assert "last note on the tonic" in heads and "sections of 4, 8 or 16 bars" in heads
    labels = page.evaluate(
        "[...document.querySelectorAll('figure svg')].map(svg => svg.getAttribute('aria-label'))"
    )
    assert any(label.startswith("Pitches: songs most often") for label in labels)
    forms = page.evaluate(
        "[...document.querySelectorAll('.form')].map(item => item.getAttribute('aria-label'))"
    )
    assert forms[0] == "Form: A of 4 bars, A of 4 bars" and len(forms) == 5
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.errors == []
