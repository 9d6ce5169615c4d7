"""Songs read back from the text half of a songs directory."""

from __future__ import annotations

import json
from pathlib import Path

from reelmill.errors import DamagedError
from reelmill.songs.store.manifest import Manifest, member_name, read_manifest, tar_path
from reelmill.songs.store.song import Song
from reelmill.songs.store.tar import TarReader

TEXT_MEMBERS = (".abc", ".json", ".mid")


def stored_songs(directory: Path, number: int) -> tuple[Manifest, list[Song]]:
    """The manifest of a text shard and its songs in order, failures included. They carry no tallies.

    Raises DamagedError unless every byte is as the manifest says.
    """
    manifest = read_manifest(directory, "text", number)
    path = tar_path(directory, "text", number)
    reader = TarReader(path)
    members = dict(reader)
    if (reader.bytes, reader.sha256) != (manifest.bytes, manifest.sha256):
        raise DamagedError(f"{path}: its SHA-256 differs from its manifest's")
    failures = {failure.id: failure.reason for failure in manifest.failed}
    songs = []
    for song in range(manifest.first, manifest.first + manifest.count):
        if song in failures:
            songs.append(Song(id=song, failure=failures[song]))
            continue
        try:
            _, facts, midi = (members[member_name(song) + extension] for extension in TEXT_MEMBERS)
        except KeyError as error:
            raise DamagedError(f"{path}: {error.args[0]} is missing") from None
        songs.append(Song(id=song, facts=json.loads(facts), midi=midi))
    if len(members) != len(TEXT_MEMBERS) * manifest.songs:
        raise DamagedError(f"{path}: {len(members)} members for {manifest.songs} songs")
    return manifest, songs
