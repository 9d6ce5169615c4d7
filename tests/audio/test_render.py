"""Every back end plays the right notes, at the same peak, as long as the MIDI lasts, with the same bytes."""

import hashlib
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from symusic import Note, Score, Tempo, Track

from reelmill.audio.encode import decode, encode, extension
from reelmill.audio.features import features
from reelmill.audio.midi import abc_to_midi
from reelmill.audio.render import PEAK, TAIL_SECONDS, SilentAudio, finish, renderer, versions
from reelmill.audio.settings import AudioSettings
from reelmill.audio.simplify import simplify
from reelmill.audio.soundfont import soundfont
from reelmill.config import parse
from reelmill.errors import RequestError
from tests.audio.sound import audio_problem

BACKENDS = [
    pytest.param(
        name, marks=pytest.mark.skipif(name != "symusic" and not shutil.which(name), reason=f"no {name}")
    )
    for name in ("symusic", "timidity", "fluidsynth")
]


@pytest.fixture(autouse=True)
def _needs_a_soundfont() -> None:
    try:
        soundfont(AudioSettings())
    except RequestError as error:
        pytest.skip(str(error))


def settings(backend: str, **others: Any) -> AudioSettings:
    return AudioSettings(backend=backend, **others)  # type: ignore[arg-type]


def digest(samples: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(samples.tobytes()).hexdigest()


def one_note(pitch: int, program: int = 0) -> bytes:
    score = Score(480)
    track = Track("", program, False)
    track.notes.append(Note(0, 960, pitch, 100))
    score.tracks.append(track)
    score.tempos.append(Tempo(0, qpm=60))
    return bytes(score.dumps_midi())


def cents_off(samples: np.ndarray[Any, Any], pitch: int, rate: int) -> float:
    """How far the strongest partial is from the first or second of equal temperament (A4 = 440 Hz)."""
    sound = samples[int(0.03 * rate) : int(0.6 * rate)].mean(axis=1)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 18))
    peak = np.argmax(spectrum) * rate / (1 << 18)
    ratio = peak / (440 * 2 ** ((pitch - 69) / 12))
    return float(1200 * np.log2(ratio / min(max(round(ratio), 1), 2)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pitch", [50, 57, 62, 66, 69, 71, 74, 78, 81, 86])
def test_notes_have_the_pitch_that_is_written(backend: str, pitch: int) -> None:
    samples = renderer(settings(backend, sample_rate=22050)).render(one_note(pitch))
    assert abs(cents_off(samples, pitch, 22050)) < 25


def test_the_soundfont_as_it_is_would_be_out_of_tune() -> None:
    import symusic

    off = []
    synthesizer = symusic.Synthesizer(str(soundfont(AudioSettings())), 22050, 4)
    for pitch in (57, 62, 66, 69):
        played = np.asarray(synthesizer.render(Score.from_midi(one_note(pitch)), True)).T
        off.append(abs(cents_off(played, pitch, 22050)))
    assert max(off) > 100  # the day this fails, symusic reads root keys, and simplify may go


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (22050, 1), (48000, 2)])
def test_audio_lasts_what_its_midi_lasts_is_loud_and_does_not_clip(
    backend: str, rate: int, channels: int, tune: str
) -> None:
    wanted = settings(backend, sample_rate=rate, channels=channels)
    midi = abc_to_midi(tune)
    samples = renderer(wanted).render(midi.data)
    assert samples.dtype == np.int16
    assert samples.shape == (round((midi.seconds + TAIL_SECONDS) * rate), channels)
    assert np.abs(samples.astype(int)).max() == pytest.approx(PEAK * 32767, abs=1)
    assert audio_problem(encode(samples, wanted), midi.seconds) == ""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("instrument", ["acoustic grand piano", "church organ", "accordion"])
def test_the_last_note_rings_and_fades_without_a_click(backend: str, instrument: str, hornpipe: str) -> None:
    """Some that would sound for ever, too: by samples, in steps of 50 ms over the tail."""
    rate = 44100
    midi = abc_to_midi(hornpipe)
    samples = renderer(settings(backend, instrument=instrument, channels=1)).render(midi.data)[:, 0] / 32768
    tail = samples[-round(TAIL_SECONDS * rate) :]
    steps = tail[: len(tail) // 2205 * 2205].reshape(-1, 2205)
    level = 10 * np.log10(np.square(steps).mean(axis=1) + 1e-12)
    before = 10 * np.log10(np.square(samples[-len(tail) - 2205 : -len(tail)]).mean())
    assert level[0] > before - 12 and level[3] > before - 30  # it goes on …
    assert (level[4:] < level[:-4] + 1).all()  # … falls all the time …
    assert level[10] < before - 25 and level[-1] < -60  # … and is gone.
    assert np.abs(np.diff(tail)).max() <= np.abs(np.diff(samples[: -len(tail)])).max()
    assert np.abs(tail[-1]) <= 1 / 32768


def test_an_instrument_is_heard_and_has_a_name_and_a_number(hornpipe: str) -> None:
    def played(instrument: str | int) -> str:
        wanted = parse(AudioSettings, {"instrument": instrument, "sample_rate": 8000}, "the test")
        return digest(renderer(wanted).render(midi))

    midi = abc_to_midi(hornpipe).data
    assert played("Accordion") == played(22) == played("22") != played("flute") == played(74)
    assert (
        played(1)
        == played("acoustic grand piano")
        == digest(renderer(settings("symusic", sample_rate=8000)).render(midi))
    )
    for wrong, said in {
        "acordion": "such as accordion",
        "guitar": "acoustic guitar",
        0: "from 1 to 128",
    }.items():
        with pytest.raises(RequestError, match=said):
            played(wrong)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_song_does_not_depend_on_songs_before_it(backend: str, hornpipe: str, short_tune: str) -> None:
    play = renderer(settings(backend, sample_rate=22050)).render
    one, other = abc_to_midi(hornpipe).data, abc_to_midi(short_tune).data
    first, between, again = digest(play(one)), digest(play(other)), digest(play(one))
    assert first == again != between
    assert digest(renderer(settings(backend, sample_rate=22050)).render(other)) == between


def test_instruments_that_share_samples_do_not_change_each_other() -> None:
    pitches, programs = (57, 69, 76), (0, 1, 4, 5, 16, 40, 48, 73)
    notes = [one_note(pitch, program) for program in programs for pitch in pitches]
    forwards, backwards = renderer(AudioSettings()), renderer(AudioSettings())
    expected = [digest(forwards.render(note)) for note in notes]
    assert [digest(backwards.render(note)) for note in reversed(notes)] == expected[::-1]


def test_same_bytes_in_another_process_and_thread(tune: str) -> None:
    midi = abc_to_midi(tune).data
    expected = digest(renderer(AudioSettings()).render(midi))
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(digest(renderer(AudioSettings()).render(midi))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    script = (
        "import sys, hashlib; from reelmill.audio.render import renderer; "
        "from reelmill.audio.settings import AudioSettings; "
        "print(hashlib.sha256(renderer(AudioSettings()).render(sys.stdin.buffer.read()).tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", script], input=midi, capture_output=True, check=True)
    assert [*found, other.stdout.decode().strip()] == [expected] * 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_midi_file_without_notes_is_silent(backend: str) -> None:
    silent = abc_to_midi("X:1\nM:4/4\nL:1/4\nK:C\nz4|z4|\n").data
    with pytest.raises(SilentAudio):
        renderer(settings(backend)).render(silent)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-6, -1e-6])
def test_silence_is_no_sound(value: float) -> None:
    with pytest.raises(SilentAudio):
        finish(np.full((1000, 2), value, np.float32), 2000, 44100)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("others", [-0.5, 0.5])
def test_what_is_no_number_is_no_sound(value: float, others: float) -> None:
    samples = np.full((200_000, 2), others, np.float32)
    samples[150_000, 1] = value
    with pytest.raises(SilentAudio):
        finish(samples, 200_000, 44100)


@pytest.mark.parametrize("peak", [-0.75, 0.75, -3.0, 2e-4])
@pytest.mark.parametrize("others", [-1e-4, 1e-4])
def test_the_largest_magnitude_is_scaled_to_the_peak(peak: float, others: float) -> None:
    samples = np.full((200_000, 2), others, np.float32)
    samples[150_000, 1] = peak
    finished = finish(samples, 200_000, 44100)
    assert finished[150_000, 1] == round(np.copysign(PEAK * 32767, peak))
    assert np.abs(finished).max() == abs(finished[150_000, 1])


@pytest.mark.parametrize("format_", ["wav", "flac"])
def test_files_are_lossless_and_the_same_every_time(format_: str, hornpipe: str) -> None:
    wanted = AudioSettings(format=format_)  # type: ignore[arg-type]
    samples = renderer(wanted).render(abc_to_midi(hornpipe).data)
    data = encode(samples, wanted)
    assert encode(samples.copy(), wanted) == data
    back, rate = decode(data)
    assert rate == wanted.sample_rate
    assert np.array_equal(back, samples)
    assert extension(wanted) == f".{format_}"
    if format_ == "wav":
        assert len(data) == 44 + samples.nbytes


def test_the_check_tells_wrong_length_silence_clipping_and_other_files(hornpipe: str) -> None:
    wanted = AudioSettings()
    midi = abc_to_midi(hornpipe)
    samples = renderer(wanted).render(midi.data)
    assert "lasts" in audio_problem(encode(samples[:-1000], wanted), midi.seconds)
    assert "silent" in audio_problem(encode(samples * 0, wanted), midi.seconds)
    loud = np.where(samples > 10000, 32767, samples).astype(np.int16)
    assert audio_problem(encode(loud, wanted), midi.seconds) == "clipped"
    assert "not an audio file" in audio_problem(b"RIFF nothing", midi.seconds)


def test_features_of_a_song_agree_between_back_ends(hornpipe: str) -> None:
    midi = abc_to_midi(hornpipe)
    reference = features(renderer(AudioSettings()).render(midi.data), 44100, midi)
    assert reference["duration_seconds"] == pytest.approx(midi.seconds + TAIL_SECONDS, abs=1e-3)
    for name in ("timidity", "fluidsynth"):
        if shutil.which(name):
            other = features(renderer(settings(name)).render(midi.data), 44100, midi)
            assert other["spectral_centroid_hz"] == pytest.approx(reference["spectral_centroid_hz"], rel=0.3)
            assert other["loudness_dbfs"] == pytest.approx(reference["loudness_dbfs"], abs=6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_versions_name_the_synthesizer_and_the_soundfont(backend: str) -> None:
    found = versions(settings(backend))
    assert backend in found["synthesizer"].lower()
    assert len(found["soundfont"]) == 64
    assert "abc2midi" in found["abc2midi"]


@pytest.mark.parametrize("backend", ["timidity", "fluidsynth"])
def test_a_missing_program_is_explained(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RequestError, match=f"install Debian's {backend}"):
        renderer(settings(backend))


@pytest.mark.parametrize("data", [b"", b"RIFF", b"RIFF\0\0\0\0sfbk", b"RIFF\0\0\0\0sfbkLIST\4\0\0\0INFO"])
def test_a_broken_soundfont_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="malformed SoundFont"):
        simplify(data)
