"""Songs rendered a second on one core: symusic's path in this process against the timidity program.

Both sides get the same MIDI files, made from real tunes of the `irish` corpus, and write a 44.1 kHz 16-bit
WAV each, some songs on one side and then the same songs on the other, in one run. The unit is CPU time, so
that another load on the machine and the second that timidity sleeps at its end count for neither side. Run:
python tests/benchmarks/rendering.py

The goal is one for stereo. In mono timidity is four times as fast as in stereo, the synthesizer here twice.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported

from table import Row, at_least, row, table

from reelmill.audio import programs
from reelmill.audio.encode import pieces
from reelmill.audio.features import features
from reelmill.audio.midi import Midi, abc_to_midi, midi_problem
from reelmill.audio.render import renderer
from reelmill.audio.settings import AudioSettings
from reelmill.audio.soundfont import soundfont
from reelmill.corpus import named
from reelmill.songs.store.direct_io import DirectFile

_TURN = 20  # songs by one side before it is the other's turn: their caches are then warm, as in a long run


def real_tunes(count: int) -> list[Midi]:
    """MIDI of ``count`` tunes spread over the irish corpus."""
    books = sorted(named.get("irish").glob("*.abc"))
    text = "\n\n".join(book.read_text(encoding="utf-8", errors="replace") for book in books)
    tunes = [tune for tune in text.replace("\r\n", "\n").split("\n\n") if tune.lstrip().startswith("X:")]
    midis = (abc_to_midi(tune) for tune in tunes[:: max(len(tunes) // (2 * count), 1)])
    return [midi for midi in midis if not midi_problem(midi)][:count]


def _mean_seconds(work: Callable[[Any], object], items: Sequence[Any]) -> float:
    """CPU time of this process and of its children that ``work`` takes for one of ``items``."""
    before = _cpu()
    for item in items:
        work(item)
    return (_cpu() - before) / len(items)


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def spent_seconds(songs: int, channels: Literal[1, 2]) -> dict[str, list[float]]:
    """CPU seconds a song by each way, and of its features; one figure for each ``_TURN`` songs."""
    settings = AudioSettings(channels=channels)
    symusic = renderer(settings)
    timidity = programs.find("timidity", "timidity")
    output = "-OwM" if channels == 1 else "-OwS"
    spent: dict[str, list[float]] = {"symusic": [], "features": [], "timidity": []}
    with tempfile.TemporaryDirectory() as directory, DirectFile(Path(directory, "shard")) as shard:
        folder = Path(directory)
        configuration = folder / "timidity.cfg"
        configuration.write_text(f"soundfont {soundfont(settings)}\n")
        command = [timidity, "-c", str(configuration), output, "-s", "44100", "-o", str(folder / "song.wav")]

        def by_symusic(midi: Midi) -> None:
            for piece in pieces(symusic.render(midi.data), settings):
                shard.write(piece)  # as a worker writes it

        def by_timidity(midi: Midi) -> None:
            (folder / "song.mid").write_bytes(midi.data)
            song = str(folder / "song.mid")
            subprocess.run([*command, song], check=True, capture_output=True, timeout=120)

        tunes = real_tunes(songs)
        for midi in tunes[:_TURN]:  # what is loaded and resampled once for a night of songs
            by_symusic(midi)
        for start in range(0, len(tunes), _TURN):
            turn = tunes[start : start + _TURN]
            spent["symusic"].append(_mean_seconds(by_symusic, turn))
            spent["timidity"].append(_mean_seconds(by_timidity, turn))
            heard = [(symusic.render(midi.data), 44100, midi) for midi in turn]
            spent["features"].append(_mean_seconds(lambda of: features(*of), heard))
    return spent


def rows(songs: int = 60) -> list[Row]:
    """Songs a second of CPU time, in stereo and in mono."""
    found = []
    channels: Literal[1, 2]
    for name, channels in (("stereo", 2), ("mono", 1)):
        spent = spent_seconds(songs, channels)
        ratios = [slow / fast for fast, slow in zip(spent["symusic"], spent["timidity"], strict=True)]
        goal = at_least(40, ratios) if channels == 2 else {"ratio": statistics.median(ratios)}
        rate = {way: len(seconds) / sum(seconds) for way, seconds in spent.items()}
        found += [
            row(f"songs rendered, {name} WAV", rate["symusic"], "/CPU s", "timidity", **goal),
            row(f"songs rendered by timidity, {name}", rate["timidity"], "/CPU s"),
            row(f"songs measured (features), {name}", rate["features"], "/CPU s"),
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=60)
    print(table(rows(parser.parse_args().songs)))


if __name__ == "__main__":
    main()
