"""A run, or songs with their sound and their results table, brought to Comet."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reelmill import config as configuration
from reelmill import durable
from reelmill.errors import IncompleteError, RequestError
from reelmill.layout import CONFIG, METRICS, is_songs
from reelmill.report.page import SAMPLE
from reelmill.report.results import result, write_results
from reelmill.report.songs import Songs, read_songs
from reelmill.songs.results.collect import SUMMARY
from reelmill.songs.results.publishing import parameters, tracking_settings
from reelmill.songs.results.throughput import Figures
from reelmill.songs.store.song import TIERS
from reelmill.tracking.comet import Publisher, delivered, drop_media, may_be_online, tracks
from reelmill.tracking.metrics import MetricsLog
from reelmill.tracking.settings import TrackingSettings

_log = logging.getLogger(__name__)


def publish_songs(directory: Path, settings: TrackingSettings) -> Path | None:
    """Publish a songs directory as an experiment of its own; the offline archive if one was made.

    Delivers what the workers could not while they made the songs. Writes ``directory``/results.csv and brings
    metrics.jsonl up to date, with the musical figures of songs that are collected. Called again, when there
    are more songs, it is the same experiment.
    """
    try:
        Figures(directory).update()
        _log_music(directory)
    except (OSError, RequestError) as error:  # the songs are whole all the same
        _log.warning("%s is not up to date: %s", directory / "metrics.jsonl", error)
    songs = read_songs(directory)
    sample = list(songs.sample(SAMPLE))
    table = directory / "results.csv"
    write_results(table, (result(song.facts) for song in sample))
    if not tracks(settings):
        return None
    planned = parameters(songs.plan)
    publisher = Publisher(directory, settings, {**planned, "songs": {**planned["songs"], **_totals(songs)}})
    for song in sample:
        publisher.log_song(f"song-{song.facts['id']:09d}", song.facts["abc"], song.audio or None)
    publisher.log_table(table)
    archive = publisher.close()
    if archive or delivered(directory):
        drop_media(directory)  # the shards have it
    return archive


def track(directory: Path, overrides: Sequence[str] = ()) -> Path | None:
    """Bring a run or songs to Comet now, whatever has reached it before; the offline archive where no key is
    configured.

    Raises RequestError where ``tracking.comet`` is off, IncompleteError if nothing could be delivered.
    """
    config = None if is_songs(directory) else configuration.load(directory / CONFIG, overrides)
    settings = config.tracking if config else tracking_settings(directory, overrides)
    if not settings.comet:
        raise RequestError(f"{directory}: tracking.comet is off; add tracking.comet=true")
    if not may_be_online(settings):
        settings = replace(settings, online=False)
    if config:
        archive = Publisher(directory, settings, configuration.to_dict(config)).close()
    else:
        archive = publish_songs(directory, settings)
    if not archive and not delivered(directory):
        raise IncompleteError(f"{directory}: not all of it is at Comet")
    return archive


def _log_music(directory: Path) -> None:
    """Append the musical figures of summary.json to metrics.jsonl, once for each state of the songs."""
    if not (directory / SUMMARY).is_file():
        return
    music = durable.read_json(directory / SUMMARY).get("music", {})
    values = {
        f"{prefix}{name}": value
        for prefix, population in (("", "songs"), ("training_", "training"))
        for part in ("means", "nearest", "divergences")
        for name, value in (music.get(population, {}).get(part) or {}).items()
        if isinstance(value, int | float)
    }
    log = MetricsLog(directory / METRICS)
    step = max((record["step"] for record in log.read()), default=0)
    if values:
        log.append(step, kind="music", of="songs", **values)
    log.close()


def _totals(songs: Songs) -> dict[str, float | int | str]:
    attempts = songs.attempts
    made = attempts["made"]
    rates = {f"passed_{tier}": attempts[tier] / made for tier in TIERS if made and tier in attempts}
    return {
        "made": songs.made,
        "with_audio": songs.sounding,
        "failed": sum(songs.failures("text").values()),
        "attempts": attempts["made"],
        "audio_seconds": round(songs.total("duration_seconds"), 1),
        "songs_per_second": round(songs.made / songs.seconds, 3) if songs.seconds else 0.0,
        **rates,
    }
