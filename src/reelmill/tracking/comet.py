"""Bring a run or a songs directory to Comet, online or as an offline archive.

A ``Publisher`` only writes small files (``outbox``) and pokes another process (``delivery``), which reads
metrics.jsonl and talks to Comet. So training neither imports comet_ml nor waits for a network, and a failure
of Comet is one warning. One publisher a job: rank 0's.

Offline, and whenever Comet could not be reached, ``close`` makes ``comet/KEY.zip`` for ``comet upload``. A
job that was killed before ``close`` leaves none; the next one's ``close`` makes it from what is on disk.
Where ``tracking.online`` is auto and no key is configured, ``reelmill track`` makes it when asked.
"""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from reelmill.tracking.delivery import NO_KEY
from reelmill.tracking.outbox import Outbox
from reelmill.tracking.settings import TrackingSettings

_log = logging.getLogger(__name__)
_ARCHIVE_SECONDS = 600
_TRY_AGAIN_SECONDS = 300
_WAV = b"RIFF"


class Publisher:
    """Publishes ``directory``/metrics.jsonl, parameters, songs and tables. No method raises for Comet's sake.

    ``parameters``: the resolved configuration, nested; it reaches Comet by dotted names.
    """

    def __init__(self, directory: Path, settings: TrackingSettings, parameters: dict[str, Any]) -> None:
        self.directory = directory
        self._settings = settings
        self._outbox = Outbox(directory)
        self._follower: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._warned = False
        self._closed = not settings.comet
        if settings.comet:
            try:
                self._outbox.describe(settings.project, settings.workspace, parameters)
                if may_be_online(settings):
                    self._follower = self._start_follower()
            except Exception as error:
                self._warn(error)

    def publish(self) -> None:
        """Let what was appended to metrics.jsonl be sent. Returns at once."""
        follower = self._follower
        if follower is None or follower.stdin is None:
            return
        if follower.poll() is not None:
            self._follower_ended(follower.returncode)
            if follower.returncode != NO_KEY and time.monotonic() - self._started > _TRY_AGAIN_SECONDS:
                self._try_again()
            return
        try:
            follower.stdin.write(b"\n")
        except BlockingIOError:
            pass  # it is busy and has been told often enough
        except OSError as error:
            self._warn(error)

    def log_song(
        self, name: str, abc: str, audio: bytes | Any = None, step: int = 0, rate: int = 44100
    ) -> None:
        """Publish a song: its ABC, and the bytes of a WAV or FLAC file, or samples [time, channels].

        ``rate``: of samples, in hertz. ``name`` identifies the song: the same name replaces, the same content
        is not sent again.
        """
        self._put(name, "song", step, {"abc": abc, "audio": audio}, rate)

    def log_table(self, path: Path, step: int = 0) -> None:
        """Publish a table, a .csv file."""
        self._put(path.stem, "table", step, {"table": path}, 0)

    def close(self, timeout: float = 60, archive: bool = True) -> Path | None:
        """Send the rest and stop; returns the offline archive if one was made.

        Waits at most ``timeout`` seconds for Comet. With ``archive`` False no archive is made, for a job that
        is about to be requeued and has little time.
        """
        if self._closed:
            return None
        self._closed = True
        if self._follower is not None and self._finish_follower(timeout):
            return None
        if not archive or not tracks(self._settings):
            return None
        try:
            return make_archive(self.directory)
        except Exception as error:
            self._warn(error)
            return None

    def _put(self, name: str, kind: str, step: int, contents: dict[str, Any], rate: int) -> None:
        if self._closed:
            return
        try:
            files = {role: _content(value, rate) for role, value in contents.items() if value is not None}
            self._outbox.put(name, kind, step, files)
        except Exception as error:
            self._warn(error)
        self.publish()

    def _try_again(self) -> None:
        """The network may be back; the next follower begins where Comet confirmed the last."""
        try:
            self._follower = self._start_follower()
        except OSError as error:
            self._warn(error)

    def _start_follower(self) -> subprocess.Popen[bytes]:
        self._started = time.monotonic()
        with (self._outbox.folder / "publisher.log").open("ab") as log:
            follower = subprocess.Popen(
                _delivery("follow", self.directory),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                bufsize=0,
                start_new_session=True,  # an interrupt at the keyboard is for us; it ends when its input does
            )
        assert follower.stdin is not None
        os.set_blocking(follower.stdin.fileno(), False)
        return follower

    def _finish_follower(self, timeout: float) -> bool:
        """End the follower; whether it delivered everything."""
        assert self._follower is not None and self._follower.stdin is not None
        self._follower.stdin.close()
        try:
            status = self._follower.wait(timeout)
        except subprocess.TimeoutExpired:
            self._follower.kill()
            status = self._follower.wait()
        if status != 0:
            self._follower_ended(status)
        return status == 0

    def _follower_ended(self, status: int) -> None:
        if status != NO_KEY:
            self._warn(f"Comet could not be reached (see {self._outbox.folder / 'publisher.log'})")
        elif self._settings.online is True:
            self._warn("tracking.online is true, but no Comet key is configured (`comet login` makes one)")

    def _warn(self, reason: object) -> None:
        if not self._warned:
            _log.warning("not published to Comet, going on without: %s", reason)
        self._warned = True


def make_archive(directory: Path) -> Path:
    """Make the offline archive of a run or songs directory again from what is on disk; its path.

    Raises RuntimeError with the end of Comet's own message if that fails.
    """
    outbox = Outbox(directory)
    place = outbox.folder / f"{outbox.experiment().key}.zip"
    done = subprocess.run(
        _delivery("archive", directory),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_ARCHIVE_SECONDS,
        start_new_session=True,
    )
    if done.returncode != 0:
        (outbox.folder / "publisher.log").open("ab").write(done.stdout)
        raise RuntimeError(f"no archive: {done.stdout.decode(errors='replace').strip()[-300:]}")
    return place


def _delivery(command: str, directory: Path) -> list[str]:
    return [sys.executable, "-P", "-m", "reelmill.tracking.delivery", command, str(directory)]


def tracks(settings: TrackingSettings) -> bool:
    """Whether Comet is to be told as things are made, or by an archive at their end."""
    return settings.online is False or may_be_online(settings) if settings.comet else False


def may_be_online(settings: TrackingSettings) -> bool:
    """Cheap sign that Comet is wanted online and a key is configured: the follower has the last word."""
    if settings.online == "auto":
        return settings.comet and _key_may_be_configured()
    return settings.comet and settings.online


def _key_may_be_configured() -> bool:
    files = [os.environ.get("COMET_CONFIG", ""), ".comet.config", "~/.comet.config", ".env"]
    return "COMET_API_KEY" in os.environ or any(file and Path(file).expanduser().is_file() for file in files)


def _content(value: Any, rate: int) -> tuple[str, bytes]:
    """(suffix, bytes) of ABC text, a file, the bytes of a sound file, or samples; sound as FLAC."""
    if isinstance(value, str):
        return ".abc", value.encode()
    if isinstance(value, Path):
        return value.suffix, value.read_bytes()
    import soundfile

    if isinstance(value, bytes):
        if value[:4] != _WAV:
            return ".flac", value
        value, rate = soundfile.read(io.BytesIO(value), dtype="int16")
    file = io.BytesIO()
    soundfile.write(file, value, rate, format="FLAC", subtype="PCM_16")
    return ".flac", file.getvalue()
