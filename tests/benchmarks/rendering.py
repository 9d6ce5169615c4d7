"""Songs rendered a second on one core: symusic's path in this process against the timidity program.

Both sides get the same MIDI files, made from real tunes of the `irish` corpus, and write a 44.1 kHz 16-bit
WAV each, in turns, in one run. The unit is CPU time, so that another load on the machine and the
second that timidity sleeps at its end count for neither side. Run: python tests/benchmarks/rendering.py

Where a stereo song's time goes (55 seconds, 10 MB), each part in a loop of its own: the synthesizer 6.7 ms,
scaling to the peak and 16 bits 4, the WAV's bytes 0.6, a direct write 1.5. In turns with timidity, with cold
caches, the whole takes twice as long. The two channels differ (the soundfont's piano is panned by key), so
rendering one and doubling it would be another sound. No level of FLAC is much faster than its default.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported

from table import Row, at_least, row, table

from reelmill.audio import programs
from reelmill.audio.encode import encode
from reelmill.audio.features import features
from reelmill.audio.midi import Midi, abc_to_midi, midi_problem
from reelmill.audio.render import renderer
from reelmill.audio.settings import AudioSettings
from reelmill.audio.soundfont import soundfont
from reelmill.corpus import named
from reelmill.songs.direct import DirectFile


def real_tunes(count: int) -> list[Midi]:
    """MIDI of ``count`` tunes spread over the irish corpus."""
    books = sorted(named.get("irish").glob("*.abc"))
    text = "\n\n".join(book.read_text(encoding="utf-8", errors="replace") for book in books)
    tunes = [tune for tune in text.replace("\r\n", "\n").split("\n\n") if tune.lstrip().startswith("X:")]
    midis = (abc_to_midi(tune) for tune in tunes[:: max(len(tunes) // (2 * count), 1)])
    return [midi for midi in midis if not midi_problem(midi)][:count]


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of this process and of its children that ``work`` takes."""
    before = _cpu()
    work()
    return _cpu() - before


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def spent_seconds(songs: int, channels: Literal[1, 2]) -> dict[str, list[float]]:
    """CPU seconds a song by each way, and of its features."""
    settings = AudioSettings(channels=channels)
    symusic = renderer(settings)
    spent: dict[str, list[float]] = {"symusic": [], "timidity": [], "features": []}
    timidity = programs.find("timidity", "timidity")
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        configuration = folder / "timidity.cfg"
        configuration.write_text(f"soundfont {soundfont(settings)}\n")
        wav = folder / "song.wav"
        command = [
            timidity,
            "-c",
            str(configuration),
            "-OwM" if channels == 1 else "-OwS",
            "-o",
            str(wav),
            "-s",
            "44100",
        ]
        command.append(str(folder / "song.mid"))
        for midi in real_tunes(songs):
            (folder / "song.mid").write_bytes(midi.data)
            samples = symusic.render(midi.data)
            ways: dict[str, Callable[[], object]] = {
                "symusic": lambda midi=midi: _write(wav, encode(symusic.render(midi.data), settings)),
                "features": lambda midi=midi, samples=samples: features(samples, 44100, midi),
                "timidity": lambda: subprocess.run(command, check=True, capture_output=True, timeout=120),
            }
            for way, work in ways.items():
                spent[way].append(cpu_seconds(work))
    return spent


def _write(path: Path, data: bytes) -> None:
    with DirectFile(path) as file:  # as shards are written
        file.write(data)


def rows(songs: int = 40) -> list[Row]:
    """Songs a second of CPU time, in stereo and in mono."""
    found = []
    channels: Literal[1, 2]
    for name, channels in (("stereo", 2), ("mono", 1)):
        spent = spent_seconds(songs, channels)
        times = [slow / fast for fast, slow in zip(spent["symusic"], spent["timidity"], strict=True)]
        rate = {way: len(seconds) / sum(seconds) for way, seconds in spent.items()}
        found += [
            row(f"songs rendered, {name} WAV", rate["symusic"], "/CPU s", "timidity", **at_least(40, times)),
            row(f"songs rendered by timidity, {name}", rate["timidity"], "/CPU s"),
            row(f"songs measured (features), {name}", rate["features"], "/CPU s"),
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=40)
    print(table(rows(parser.parse_args().songs)))


if __name__ == "__main__":
    main()
