"""The library in ten lines of Python: load a corpus, train or load a model, sample songs, render them.

These are the command line's own rooms with the files left out. For corpora of songs that last, use
``reelmill.songs`` (or ``reelmill generate``), whose bytes are the same as those of ``sample_songs`` here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelmill.config import Config, nearest, parse
from reelmill.errors import RequestError

if TYPE_CHECKING:
    import datasets

    from reelmill.model import TrainedModel
    from reelmill.songs.make.render import Recording
    from reelmill.training.loop import TrainingResult


def load_corpus(source: str | list[str], **settings: Any) -> datasets.DatasetDict:
    """The tunes of ``source`` (a named corpus, path, glob or hub id), split; built on first use.

    ``settings`` are keys of the corpus section. Columns: text, source, cluster, index.
    """
    from reelmill.corpus.build import load_or_build
    from reelmill.corpus.settings import CorpusSettings

    return load_or_build(parse(CorpusSettings, {"source": source, **settings}, "load_corpus")).tunes


def load_model(directory: str | Path, checkpoint: str | None = None) -> TrainedModel:
    """The model of a run (its best checkpoint unless one is named) or of a songs directory, on the CPU."""
    from reelmill.layout import is_songs
    from reelmill.model import TrainedModel
    from reelmill.runs import load_model as load_checkpoint

    directory = Path(directory)
    if is_songs(directory):
        return TrainedModel.load(directory / "model")
    return load_checkpoint(directory, checkpoint)


def train(config: Config, run: str | Path) -> TrainingResult:
    """Train in the directory ``run`` to the end of what ``config`` (``load_config``) asks for.

    Goes on with a run that is not finished. Raises RequestError for settings that cannot be.
    """
    from reelmill.training.loop import train as train_run

    return train_run(config, Path(run))


def sample_songs(
    model: TrainedModel,
    count: int,
    seed: int = 0,
    prompt: str = "",
    require: str = "midi",
    max_attempts: int = 20,
    **settings: Any,
) -> list[str]:
    """``count`` songs in ABC, the first attempt of each that passes ``require``.

    The number of a song, from 0, stands in its X: field.

    ``settings`` are keys of the sampling section. A song without a passing attempt raises RequestError, since
    a model that cannot write songs is more often the cause than bad luck.
    """
    from reelmill.audio.tempo import TEMPOS
    from reelmill.notation.validity import numbered
    from reelmill.sampling.engine import Attempt, Engine
    from reelmill.sampling.settings import SamplingSettings
    from reelmill.songs.make.validate import REQUIREMENTS, validate
    from reelmill.songs.store.prompts import check_opening

    sampling = parse(SamplingSettings, settings, "sample_songs")
    if require not in REQUIREMENTS:
        raise RequestError(f"sample_songs: require {require!r}{nearest(require, REQUIREMENTS)}")
    check_opening(prompt, require, "sample_songs")
    engine = Engine(model, sampling, seed)
    waiting = [Attempt(song, 0, prompt) for song in reversed(range(count))]
    songs: dict[int, str] = {}
    while waiting or engine.active:
        while waiting and engine.free:
            engine.submit(waiting.pop())
        for one in engine.step().sampled(model.vocabulary):
            abc = numbered(one.text, one.song)
            reason = validate(abc, one.ended, sampling.max_length, TEMPOS).reason(require)
            if not reason:
                songs[one.song] = abc
            elif one.attempt + 1 < max_attempts:
                waiting.append(Attempt(one.song, one.attempt + 1, prompt))
            else:
                raise RequestError(
                    f"song {one.song}: none of {max_attempts} attempts is valid (the last: {reason}); "
                    "train the model longer, or lower require or temperature"
                )
    return [songs[song] for song in range(count)]


def render_abc(abc: str, **settings: Any) -> Recording:
    """The sound of one tune; ``settings`` are keys of the audio section. RequestError if it is no tune."""
    from reelmill.audio.settings import AudioSettings
    from reelmill.songs.make.render import render_abc as render

    return render(abc, parse(AudioSettings, settings, "render_abc"))
