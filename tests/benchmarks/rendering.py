"""Songs rendered a second on one core: symusic's path in this process against the timidity program.

Both sides get the same MIDI files, made from real tunes of the `irish` corpus, and write a 44.1 kHz 16-bit
stereo WAV each, in turns, in one run. The unit is CPU time, so that another load on the machine and the
second that timidity sleeps at its end count for neither side. Run: python tests/benchmarks/rendering.py
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from reelmill.audio import programs
from reelmill.audio.encode import encode
from reelmill.audio.features import features
from reelmill.audio.midi import Midi, abc_to_midi, midi_problem
from reelmill.audio.render import renderer
from reelmill.audio.settings import AudioSettings
from reelmill.audio.soundfont import soundfont
from reelmill.corpus import named


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=40)
    songs = parser.parse_args().songs
    settings = AudioSettings()
    midis = real_tunes(songs)
    symusic = renderer(settings)
    spent = {"symusic": 0.0, "timidity": 0.0, "features": 0.0}
    timidity = programs.find("timidity", "timidity")
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        configuration = folder / "timidity.cfg"
        configuration.write_text(f"soundfont {soundfont(settings)}\n")
        for midi in midis:
            (folder / "song.mid").write_bytes(midi.data)
            wav = folder / "song.wav"
            spent["symusic"] += cpu_seconds(
                lambda midi=midi, wav=wav: wav.write_bytes(encode(symusic.render(midi.data), settings))
            )
            samples = symusic.render(midi.data)
            spent["features"] += cpu_seconds(lambda made=samples, midi=midi: features(made, 44100, midi))
            command = [timidity, "-c", str(configuration), "-Ow", "-o", str(wav), "-s", "44100"]
            command.append(str(folder / "song.mid"))
            spent["timidity"] += cpu_seconds(
                lambda command=command: subprocess.run(command, check=True, capture_output=True, timeout=120)
            )
    rates = {f"{name}_songs_per_cpu_second": round(len(midis) / value, 1) for name, value in spent.items()}
    mean = sum(midi.seconds for midi in midis) / len(midis)
    result = {"songs": len(midis), "mean_seconds": round(mean, 1), **rates}
    result["times_timidity"] = round(spent["timidity"] / spent["symusic"], 1)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
