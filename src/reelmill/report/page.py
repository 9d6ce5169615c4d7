"""report.html: one self-contained page for a songs directory or a run, to be opened in any browser.

The page holds everything it shows (audio, notation, plots, script) and may load nothing: its Content Security
Policy forbids it. Titles and ABC are sampled text and are escaped; notation stands in as images, in which no
script can run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import soundfile

from reelmill import durable
from reelmill.errors import IncompleteError, RequestError
from reelmill.layout import is_run, is_songs
from reelmill.notation.bars import bars_problem, wrong_bar
from reelmill.notation.header import header
from reelmill.report.curves import training_numbers, training_plots
from reelmill.report.engraving import Engraving, engrave
from reelmill.report.music import Music, Neighbour, form_of, read_music
from reelmill.report.plots import Plot, histogram
from reelmill.report.results import Row, result
from reelmill.report.songs import Song, Songs, read_songs
from reelmill.report.sound import LONGEST, Clip, clip
from reelmill.runs import checkpoint_steps
from reelmill.songs.make.reference import read_tunes
from reelmill.songs.store.song import TIERS
from reelmill.tracking.comet import published_songs
from reelmill.tracking.metrics import read_metrics

FILE = "report.html"
SAMPLE = 16  # songs shown

_COLUMNS = (
    ("Song", "song", False),
    ("Title", "title", False),
    ("Key", "key", False),
    ("Meter", "meter", False),
    ("Duration", "duration_seconds", True),
    ("Tempo", "tempo_bpm", True),
    ("Spectral centroid", "spectral_centroid_hz", True),
    ("Loudness", "loudness_dbfs", True),
)  # heading, key of a row, whether it is a number

_HISTOGRAMS = (
    ("Duration", "duration_seconds", "seconds"),
    ("Duration as MIDI", "midi_seconds", "seconds"),
    ("Tempo", "tempo_bpm", "beats per minute"),
    ("Spectral centroid", "spectral_centroid_hz", "hertz"),
    ("Length", "characters", "characters"),
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """A song as the page shows it."""

    anchor: str
    name: str
    row: Row
    abc: tuple[str, str, str]  # what is before the first wrong bar, that bar, and the rest
    problem: str  # of that bar
    midi: bytes
    tiers: list[tuple[str, bool]]
    form: list[tuple[str, int]]  # (letter, bars) of each section as it is heard
    neighbour: Neighbour | None
    neighbour_score: str  # SVG
    clip: Clip | None
    silence: str  # why there is no player
    engraving: Engraving

    @property
    def title(self) -> str:
        """What the song is called; sampled text."""
        return str(self.row["title"]) or "Untitled"

    @property
    def files(self) -> list[tuple[str, str, str]]:
        """(kind, file name, content as a URI) of what can be saved."""
        files = [("ABC", f"{self.name}.abc", _data_uri("".join(self.abc).encode(), "text/vnd.abc"))]
        if self.midi:
            files.append(("MIDI", f"{self.name}.mid", _data_uri(self.midi, "audio/midi")))
        return files


def write_report(directory: Path) -> Path:
    """Write ``directory``/report.html for a songs directory or a run directory; its path.

    Raises RequestError if it is neither, IncompleteError if there is nothing to show yet.
    """
    if is_songs(directory):
        content = _songs_content(directory)
    elif is_run(directory):
        content = _run_content(directory)
    elif directory.is_dir():
        raise RequestError(
            f"{directory}: neither a songs directory (no plan.json) nor a run directory (no metrics.jsonl)"
        )
    else:
        raise RequestError(f"{directory}: no such directory")
    path = directory / FILE
    durable.write_text(path, _render(directory.resolve().name, content))
    return path


def results(directory: Path, count: int = SAMPLE) -> list[Row]:
    """The results table of the songs that the report shows."""
    return [result(song.facts) for song in read_songs(directory).sample(count)]


def _songs_content(directory: Path) -> dict[str, Any]:
    songs = read_songs(directory)
    if not songs.made:
        failed = songs.failures("text")
        if failed.total() == songs.plan.songs:
            reason, count = failed.most_common(1)[0]
            raise IncompleteError(f"{directory}: no song of {songs.plan.songs} was made: {reason} ({count})")
        raise IncompleteError(f"{directory}: no finished song yet (reelmill generate {directory} goes on)")
    sample = list(songs.sample(SAMPLE))
    music = read_music(directory, songs.plan, [song.facts["id"] for song in sample])
    cards = _cards(_song_card(song, music.neighbours.get(song.facts["id"])) for song in sample)
    course = _training_metrics(songs)
    return {
        "kind": "Generated songs",
        "numbers": _song_numbers(songs),
        "tiers": _tier_rates(songs),
        "failures": [
            (kind, reason, count)
            for kind in ("text", "audio")
            for reason, count in songs.failures(kind).most_common(12)
        ],
        "damaged": songs.damaged,
        "cards": cards,
        "music": music,
        "distributions": _histograms(songs),
        "distribution_songs": len(songs.facts),
        "about_cards": f"{len(cards)} songs, evenly spread over all {songs.made:,}.",
        "made": songs.made,
        "training": course,
        "facts": _plan_facts(songs),
        "config": "",
    }


def _run_content(directory: Path) -> dict[str, Any]:
    records = read_metrics(directory / "metrics.jsonl")
    if not records:
        raise IncompleteError(f"{directory}: no step has been logged yet")
    config = directory / "config.yaml"
    tested, songs, about = _best_model(directory) if checkpoint_steps(directory) else ([], [], "")
    samples = (_sample_card(*song) for song in published_songs(directory)[-SAMPLE:])
    return {
        "kind": "Training run",
        "numbers": [*tested, *training_numbers(records)],
        "tiers": [],
        "failures": [],
        "damaged": [],
        "cards": _cards([*map(_song_card, songs), *samples]),
        "music": Music(),
        "about_cards": about,
        "distributions": [],
        "training": training_plots(records),
        "facts": [],
        "config": config.read_text(encoding="utf-8") if config.is_file() else "",
    }


def _best_model(run: Path) -> tuple[list[tuple[str, str]], list[Song], str]:
    """The test figure for the head of the page, the best model's songs, and what to say of them."""
    from reelmill.report.best_model import best_model  # torch comes with it

    found, scores, songs = best_model(run)
    about = f"{len(songs)} songs of {found.name}, the best checkpoint: its first ones, none chosen."
    if scores is None:
        return [], songs, about
    label = f"bits per character, {scores['tunes']:,} test tunes (step {found.step})"
    return [(label, f"{scores['bits_per_char']:.3f}")], songs, about


def _song_numbers(songs: Songs) -> list[tuple[str, str]]:
    plan = songs.plan
    numbers = [("songs made" if songs.made < plan.songs else "songs", f"{songs.made:,}")]
    failed = sum(songs.failures("text").values())
    if songs.made + failed < plan.songs:
        numbers.append(("songs asked for", f"{plan.songs:,}"))
    if songs.sounding:
        about = "" if len(songs.facts) == songs.sounding else "about "
        numbers.append(("of audio", about + _clock(songs.total("duration_seconds"))))
    attempts = songs.attempts["made"]
    if attempts:
        numbers.append(("attempts a song", f"{attempts / (songs.made + failed):.2f}"))
    numbers.append(("failed", f"{failed + sum(songs.failures('audio').values()):,}"))
    if songs.seconds:
        numbers.append(("songs a second", f"{songs.made / songs.seconds:.1f}"))
    return numbers


def _tier_rates(songs: Songs) -> list[tuple[str, float, float | None]]:
    """(tier, share of attempts that passed it, share of training tunes that do)."""
    attempts = songs.attempts
    tunes = (read_tunes(songs.directory) or {}).get("pass_rate", {})
    made = attempts["made"]
    return [(tier, attempts[tier] / made, tunes.get(tier)) for tier in TIERS if made and tier in attempts]


def _training_metrics(songs: Songs) -> list[Plot]:
    for place in (songs.directory / "model", Path(songs.plan.run) if songs.plan.run else None):
        if place is not None and (place / "metrics.jsonl").is_file():
            return training_plots(read_metrics(place / "metrics.jsonl"))
    return []


def _histograms(songs: Songs) -> list[Plot]:
    shown = []
    for title, key, unit in _HISTOGRAMS:
        values = [float(facts[key]) for facts in songs.facts if key in facts]
        if len(set(values)) > 1 and not (key == "midi_seconds" and songs.sounding):
            shown.append(histogram(title, values, unit))
    return shown


def _plan_facts(songs: Songs) -> list[tuple[str, str]]:
    plan = songs.plan
    return [
        ("seed", str(plan.seed)),
        ("model", plan.model[:12]),
        ("temperature", f"{plan.sampling.temperature:g}"),
        ("required of a song", plan.songs_settings.require),
        ("songs per shard", f"{plan.songs_settings.songs_per_shard:,}"),
    ]


def _cards(sources: Iterable[Any]) -> list[Card]:
    with ThreadPoolExecutor(
        2
    ) as pool:  # engraving waits for another process, encoding leaves the interpreter
        return list(pool.map(lambda make: make(), list(sources)))


def _song_card(song: Song, neighbour: Neighbour | None = None) -> Any:
    facts = song.facts

    def make() -> Card:
        made, silence = _clip(song.audio)
        problem = "" if facts["bars"] else bars_problem(facts["abc"])
        wrong = wrong_bar(facts["abc"]) if problem else None
        if not facts["midi"]:
            silence = "No sound: it does not pass midi."
        unheard = {} if facts["midi"] else {"duration_seconds": "", "tempo_bpm": ""}
        return Card(
            anchor=f"song-{facts['id']:09d}",
            name=f"{facts['id']:09d}",
            row={**result(facts), **unheard},
            abc=_split(facts["abc"], wrong),
            problem=problem,
            midi=song.midi,
            tiers=[(tier, bool(facts[tier])) for tier in TIERS if tier in facts],
            form=form_of(facts["abc"]),
            neighbour=neighbour,
            neighbour_score=engrave(neighbour.abc).svg if neighbour and neighbour.abc else "",
            clip=made,
            silence=silence,
            engraving=engrave(facts["abc"], wrong[0] if wrong else None),
        )

    return make


def _sample_card(name: str, abc: str, sound: bytes) -> Any:
    def make() -> Card:
        made, silence = _clip(sound)
        fields = header(abc)
        row = {
            "song": name,
            "title": fields.get("T", ""),
            "key": fields.get("K", ""),
            "meter": fields.get("M", ""),
            "duration_seconds": made.seconds if made else "",
            **dict.fromkeys(("tempo_bpm", "tempo", "spectral_centroid_hz", "timbre", "loudness_dbfs"), ""),
        }
        return Card(
            anchor=name,
            name=name,
            row=row,
            abc=_split(abc, None),
            problem="",
            midi=b"",
            tiers=[],
            form=form_of(abc),
            neighbour=None,
            neighbour_score="",
            clip=made,
            silence=silence,
            engraving=engrave(abc),
        )

    return make


def _split(abc: str, wrong: tuple[int, int] | None) -> tuple[str, str, str]:
    begin, end = wrong or (len(abc), len(abc))
    return abc[:begin], abc[begin:end], abc[end:]


def _clip(audio: bytes) -> tuple[Clip | None, str]:
    if not audio:
        return None, "No audio has been rendered."
    try:
        return clip(audio), ""
    except soundfile.LibsndfileError as error:
        return None, f"The audio could not be read ({error})."


def _clock(seconds: float) -> str:
    """Hours or minutes, as a person says them."""
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} h"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _render(name: str, content: dict[str, Any]) -> str:
    folder = Path(__file__).parent
    rows = [card.row for card in content["cards"]]
    columns = [column for column in _COLUMNS if any(row[column[1]] != "" for row in rows)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clock"] = lambda value: f"{int(value) // 60}:{int(value) % 60:02d}"
    script = (folder / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("page.html.jinja").render(
        name=name,
        policy=policy,
        script=jinja2.utils.markupsafe.Markup(script),
        style=jinja2.utils.markupsafe.Markup((folder / "page.css").read_text(encoding="utf-8")),
        data_uri=_data_uri,
        columns=columns,
        longest=LONGEST,
        book="\n".join("".join(card.abc) for card in content["cards"]),
        **content,
    )
