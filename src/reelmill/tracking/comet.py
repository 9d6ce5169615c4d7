"""Bring a run or a songs directory to Comet: online while it is made, else as an offline archive.

What Comet is to be told lies on disk, so that whoever sends next begins where Comet confirmed the last:

    metrics.jsonl           the numbers
    comet/experiment.json   key, project and parameters: several jobs are one experiment
    comet/media/            STEP-NAME.abc, .flac or .csv: songs, their sound, tables
    comet/position.json     what Comet has confirmed online
    comet/KEY.zip           the rest, for ``comet upload``

A ``Publisher`` writes these and has another process send them (``python -m reelmill.tracking.comet``). So
training neither imports comet_ml nor waits for a network, and a failure of Comet is one warning. A step is
told twice only if a kill fell between Comet's confirmation and the note of it, and then with the same values.
Source code, environment, packages, git and host names are not sent.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import logging
import os
import re
import resource
import secrets
import select
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.errors import IncompleteError
from reelmill.layout import METRICS
from reelmill.lock import exclusive
from reelmill.tracking.metrics import Record, read_metrics
from reelmill.tracking.settings import TrackingSettings

FOLDER = "comet"
_log = logging.getLogger(__name__)
_ARCHIVE_SECONDS = 600
_TRY_AGAIN_SECONDS = 300
_LOOK_SECONDS = 5
_FLUSH_SECONDS = 60
_MEMORY = 8 << 30  # bytes of address space
_NOT_SENT = [
    "log_code", "log_graph", "log_git_metadata", "log_git_patch", "log_env_details", "log_env_gpu",
    "log_env_host", "log_env_cpu", "log_env_network", "log_env_disk", "parse_args", "auto_output_logging",
    "auto_param_logging", "auto_metric_logging", "auto_log_co2",
]  # fmt: skip


class Publisher:
    """Publishes ``directory``/metrics.jsonl, parameters, songs and tables. No method raises for Comet's sake.

    ``parameters``: the resolved configuration, nested; it reaches Comet by dotted names.
    """

    def __init__(self, directory: Path, settings: TrackingSettings, parameters: dict[str, Any]) -> None:
        self._directory, self._settings = directory, settings
        self._folder = directory / FOLDER
        self._sender: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._warned = False
        self._closed = not settings.comet
        if self._closed:
            return
        if settings.online is True and not _key_is_configured():
            self._warn("tracking.online is true, but no Comet key is configured (`comet login` makes one)")
        try:
            _describe(directory, settings, parameters)
            if may_be_online(settings):
                self._start()
        except Exception as error:
            self._warn(error)

    def publish(self) -> None:
        """See that what is on disk is being sent, again a while after Comet was out of reach."""
        if self._sender is None or self._closed or self._sender.poll() is None:
            return
        self._out_of_reach()
        if time.monotonic() - self._started > _TRY_AGAIN_SECONDS:
            try:
                self._start()
            except OSError as error:
                self._warn(error)

    def log_song(
        self, name: str, abc: str, audio: bytes | Any = None, step: int = 0, rate: int = 44100
    ) -> None:
        """Publish a song: its ABC, and the bytes of a WAV or FLAC file, or samples [time, channels].

        ``rate``: of samples, in hertz. ``name`` identifies the song: the same name replaces, the same content
        is not sent again.
        """
        self._put(name, step, {".abc": abc, ".flac": audio}, rate)

    def log_table(self, path: Path) -> None:
        """Publish a table, a .csv file."""
        self._put(path.stem, 0, {path.suffix: path}, 0)

    def close(self, timeout: float = 60, archive: bool = True) -> Path | None:
        """Send the rest and stop; returns the offline archive if one was made.

        Waits at most ``timeout`` seconds for Comet, 10 where it was out of reach before. With ``archive``
        False no archive is made, for a job that is about to be requeued and has little time.
        """
        if self._closed:
            return None
        self._closed = True
        timeout = min(timeout, 10) if self._warned else timeout
        try:
            if (self._sender and self._ends_well(self._sender, timeout)) or not archive:
                return None
            return make_archive(self._directory) if tracks(self._settings) else None
        except Exception as error:
            self._warn(error)
            return None

    def _put(self, name: str, step: int, contents: dict[str, Any], rate: int) -> None:
        if self._closed:
            return
        stem = re.sub(r"[^\w.-]+", "-", name).strip(".-")[:80] or "unnamed"
        try:
            (self._folder / "media").mkdir(parents=True, exist_ok=True)
            for suffix, value in contents.items():
                if value is not None:
                    path = self._folder / "media" / f"{step:09d}-{stem}{suffix}"
                    durable.write_bytes(path, _content(value, rate))
        except Exception as error:
            self._warn(error)

    def _start(self) -> None:
        self._started = time.monotonic()
        with (self._folder / "publisher.log").open("ab") as log:
            self._sender = subprocess.Popen(
                _sending(self._directory, "online"),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt at the keyboard is for us; it ends when its input does
            )

    def _ends_well(self, sender: subprocess.Popen[bytes], timeout: float) -> bool:
        """Let the sender send the rest and end; whether Comet has confirmed all."""
        assert sender.stdin is not None
        sender.stdin.close()
        try:
            sender.wait(timeout)
        except subprocess.TimeoutExpired:
            sender.kill()
        if sender.wait() == 0 or delivered(self._directory):
            return True
        self._out_of_reach()
        return False

    def _out_of_reach(self) -> None:
        self._warn(f"Comet could not be reached (see {self._folder / 'publisher.log'})")

    def _warn(self, reason: object) -> None:
        if not self._warned:
            _log.warning("not published to Comet, going on without: %s", reason)
        self._warned = True


def make_archive(directory: Path) -> Path:
    """Make the offline archive of a run or songs directory from what is on disk; its path.

    Raises RuntimeError with the end of Comet's own message if that fails.
    """
    done = subprocess.run(
        _sending(directory, "offline"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_ARCHIVE_SECONDS,
        start_new_session=True,
    )
    if done.returncode != 0:
        (directory / FOLDER / "publisher.log").open("ab").write(done.stdout)
        raise RuntimeError(f"no archive: {done.stdout.decode(errors='replace').strip()[-300:]}")
    return directory / FOLDER / f"{_experiment(directory)['key']}.zip"


def tracks(settings: TrackingSettings) -> bool:
    """Whether Comet is to be told as things are made, or by an archive at their end."""
    return settings.comet and (settings.online != "auto" or _key_is_configured())


def may_be_online(settings: TrackingSettings) -> bool:
    """Whether Comet is wanted online and a key is configured."""
    return settings.comet and settings.online is not False and _key_is_configured()


def delivered(directory: Path) -> bool:
    """Whether Comet has confirmed all metrics, songs and tables."""
    records, media, _ = _news(directory, _confirmed(directory))
    return not records and not media


def drop_media(directory: Path) -> None:
    """Remove the songs and tables, where they have been delivered and can be put again."""
    shutil.rmtree(directory / FOLDER / "media", ignore_errors=True)


def published_songs(directory: Path) -> list[tuple[str, str, bytes]]:
    """(name, ABC, FLAC or nothing) of each song for Comet, in order of steps."""
    songs = []
    for path in sorted((directory / FOLDER / "media").glob("*.abc")):
        sound = path.with_suffix(".flac")
        abc = path.read_text(encoding="utf-8")
        songs.append((_name(path), abc, sound.read_bytes() if sound.exists() else b""))
    return songs


def _key_is_configured() -> bool:
    files = [os.environ.get("COMET_CONFIG", ""), ".comet.config", "~/.comet.config", ".env"]
    paths = [Path(file).expanduser() for file in files if file]
    return "COMET_API_KEY" in os.environ or any(
        path.is_file() and b"api_key" in path.read_bytes().lower() for path in paths
    )


def _content(value: Any, rate: int) -> bytes:
    """ABC text, a file, or sound as FLAC: of the bytes of a sound file, or of samples."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, Path):
        return value.read_bytes()
    import soundfile

    if isinstance(value, bytes):
        if value.startswith(b"fLaC"):
            return value
        value, rate = soundfile.read(io.BytesIO(value), dtype="int16")
    file = io.BytesIO()
    soundfile.write(file, value, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _describe(directory: Path, settings: TrackingSettings, parameters: dict[str, Any]) -> None:
    """Note the experiment; its key is made once and stays."""
    try:
        key = _experiment(directory)["key"]
    except IncompleteError:
        key = secrets.token_hex(16)
    (directory / FOLDER).mkdir(parents=True, exist_ok=True)
    facts = {
        "key": key,
        "project": settings.project,
        "workspace": settings.workspace,
        "name": directory.resolve().name,
        "parameters": json.loads(json.dumps(parameters, default=str)),
    }
    durable.write_json(directory / FOLDER / "experiment.json", facts)


def _experiment(directory: Path) -> dict[str, Any]:
    facts: dict[str, Any] = durable.read_json(directory / FOLDER / "experiment.json")
    return facts


@dataclass(frozen=True, kw_only=True)
class _Position:
    """What has been told: the last step of each kind, SHA-256 of songs and tables by file, of parameters."""

    steps: dict[str, int] = field(default_factory=dict)
    media: dict[str, str] = field(default_factory=dict)
    parameters: str = ""


def _confirmed(directory: Path) -> _Position:
    try:
        noted = durable.read_json(directory / FOLDER / "position.json")
        return _Position(steps=noted["steps"], media=noted["media"], parameters=noted["parameters"])
    except Exception:  # unreadable: tell all of it again rather than lose any
        return _Position()


def _news(directory: Path, since: _Position) -> tuple[list[Record], list[Path], _Position]:
    """The records, songs and tables not yet told at ``since``, and the position after them."""
    records, steps = [], dict(since.steps)
    for record in read_metrics(directory / METRICS):
        kind = record.get("kind", "train")
        if record["step"] > steps.get(kind, -1):
            records.append(record)
            steps[kind] = record["step"]
    files = sorted((directory / FOLDER / "media").glob("[0-9]*"))
    digests = {path.name: _sha256(path, path.stat().st_mtime_ns) for path in files}
    media = [path for path in files if since.media.get(path.name) != digests[path.name]]
    position = _Position(steps=steps, media={**since.media, **digests}, parameters=since.parameters)
    return records, media, position


@functools.lru_cache
def _sha256(path: Path, _changed: int) -> str:
    return durable.sha256(path)


def _name(path: Path) -> str:
    return path.stem.split("-", 1)[1]


def _sending(directory: Path, way: str) -> list[str]:
    return [sys.executable, "-P", "-m", "reelmill.tracking.comet", str(directory), way]


def _send(directory: Path, online: bool) -> int:
    """Send what Comet has not confirmed: online until standard input ends or the parent is gone, else into an
    archive. 0 if all of it was delivered. One process at a time; the next waits for it.
    """
    parent, folder = os.getppid(), directory / FOLDER
    work = folder / "work"
    with exclusive(folder / "lock"):
        shutil.rmtree(work, ignore_errors=True)  # a killed one's
        work.mkdir()
        experiment = _experiment(directory)
        told = confirmed = _confirmed(directory)
        comet = _start_comet(experiment, online, work)
        ending = not online
        while True:
            told = _tell(comet, directory, experiment["parameters"], told)
            if online and told != confirmed and _has_all(comet):
                durable.write_json(folder / "position.json", asdict(told))
                confirmed = told
            if ending:
                break
            ended, _, _ = select.select([sys.stdin], [], [], _LOOK_SECONDS)
            ending = bool(ended) or os.getppid() != parent
        comet.end()
        if not online:
            _keep(work, folder / f"{experiment['key']}.zip")
        shutil.rmtree(work, ignore_errors=True)
    return 1 if online and told != confirmed else 0


def _start_comet(experiment: dict[str, Any], online: bool, work: Path) -> Any:
    import comet_ml

    return comet_ml.start(
        online=online,
        mode="get_or_create",  # jobs of one run, and archives of one run, are one experiment
        experiment_key=experiment["key"],
        project_name=experiment["project"],
        workspace=experiment["workspace"] or None,
        experiment_config=comet_ml.ExperimentConfig(
            **dict.fromkeys(_NOT_SENT, False),
            name=experiment["name"],
            display_summary_level=0,
            offline_directory=str(work),  # of an archive, or of what Comet's own fallback would leave
        ),
    )


def _has_all(comet: Any) -> bool:
    """Whether Comet has everything handed over so far."""
    return bool(comet.flush(timeout=_FLUSH_SECONDS)) and bool(comet.streamer.has_connection_to_server())


def _tell(comet: Any, directory: Path, parameters: dict[str, Any], since: _Position) -> _Position:
    """Hand over to Comet what is new since a position; the position after it."""
    records, media, position = _news(directory, since)
    flat = _flat(parameters)
    digest = hashlib.sha256(json.dumps(flat).encode()).hexdigest()
    if since.parameters != digest:
        comet.log_parameters(flat)
    for record in records:
        numbers = {
            f"{record.get('kind', 'train')}/{name}": value
            for name, value in record.items()
            if isinstance(value, (int, float)) and name not in ("step", "time")
        }
        comet.log_metrics(numbers, step=record["step"])
    for path in media:
        name, step = _name(path), int(path.name.split("-")[0])
        about = {"file_name": f"{name}{path.suffix}", "step": step, "overwrite": True}
        if path.suffix == ".abc":
            comet.log_text(path.read_text(encoding="utf-8"), step=step, metadata={"song": name})
        elif path.suffix == ".flac":
            comet.log_audio(str(path), metadata={"song": name}, **about)
        else:
            comet.log_asset(str(path), **about)
    return _Position(steps=position.steps, media=position.media, parameters=digest)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = json.dumps(value) if isinstance(value, list) else value
    return flat


def _keep(work: Path, place: Path) -> None:
    """Put the archive that Comet has left in ``work`` in its place, if it is whole."""
    (made,) = work.glob("*.zip")
    with zipfile.ZipFile(made) as contents:
        if contents.testzip() or not {"experiment.json", "messages.json"} <= set(contents.namelist()):
            sys.exit(f"{made}: Comet left an incomplete archive")
    durable.sync(made)
    made.replace(place)
    durable.sync(place.parent)


def main(arguments: list[str]) -> int:
    """Send a directory "online" or "offline", in a process of its own."""
    directory, way = arguments
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY if hard < 0 else min(_MEMORY, hard), hard))
    os.environ["COMET_DISABLE_ANNOUNCEMENT"] = "1"
    os.environ["COMET_ERROR_TRACKING_ENABLE"] = "false"  # it would send host details to a third party
    return _send(Path(directory), way == "online")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
