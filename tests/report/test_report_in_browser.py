"""The report, opened in a real browser."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Page, find_chromium
from written_directories import HOSTILE, HOSTILE_SONG, write_run, write_songs

from reelmill.report.page import SAMPLE, write_report
from reelmill.report.songs import read_songs

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
    assert captions == ["Loss", "Bits per character", "Learning rate", "Throughput"]
    assert page.errors == []
