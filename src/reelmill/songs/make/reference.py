"""What the training tunes are like, validated as attempts are: what every pass rate stands beside."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reelmill import config as configuration
from reelmill import durable
from reelmill.corpus.settings import CorpusSettings
from reelmill.errors import DamagedError, IncompleteError, RequestError
from reelmill.layout import CONFIG
from reelmill.music.figures import Figures, Population, divergences, figures
from reelmill.music.score import read_score
from reelmill.music.similarity import Melodies, melody_text
from reelmill.notation.header import header
from reelmill.runs import run_config
from reelmill.songs.make.validate import validate
from reelmill.songs.store.plan import Plan, read_plan
from reelmill.songs.store.song import TIERS

FILE = "tunes.json"
_SAMPLE = 400  # tunes, spread evenly: the rates are good to a few per cent
_MUSIC = "music.parquet"  # in a version of a corpus
_NEAREST = 2000  # tunes of a population, spread evenly, whose nearest is sought
_log = logging.getLogger(__name__)


def write_tunes(directory: Path, settings: CorpusSettings) -> None:
    """Write ``directory``/tunes.json if it is not there: pass rates and lengths of the training tunes.

    Where the corpus is not built there is none; who collects again where it is fills the gap.
    """
    path = directory / FILE
    if path.is_file():
        return
    from reelmill.corpus.build import corpus_directory, load_or_build

    if not corpus_directory(settings).is_dir():
        return  # neither downloads nor builds: that is set-up's and training's
    try:
        tempos = read_plan(directory).audio_settings.tempo
        train = load_or_build(settings).tunes["train"]
        chosen = sorted({index * len(train) // _SAMPLE for index in range(_SAMPLE)})
        texts = train.select(chosen)["text"]
        durable.write_json(
            path,
            {
                "source": settings.source,
                "corpus": dataclasses.asdict(settings),
                **measure_tunes(texts, tempos),
            },
        )
    except (RequestError, IncompleteError) as error:
        _log.warning("no pass rates of the training tunes: %s", error)


def measure_tunes(texts: list[str], tempos: Mapping[str, str] | None = None) -> dict[str, Any]:
    """``{"tunes", "pass_rate": {tier: rate}, "characters", "seconds"}``; the last two are means."""
    validated = [validate(text, True, len(text), tempos) for text in texts]
    count = max(1, len(validated))
    passed = Counter(tier for one in validated for tier in one.passed())
    return {
        "tunes": len(validated),
        "pass_rate": {tier: round(passed[tier] / count, 6) for tier in TIERS},
        "characters": round(sum(len(one.abc) for one in validated) / count, 3),
        "seconds": round(sum(one.seconds for one in validated) / count, 3),
    }


def read_tunes(directory: Path) -> dict[str, Any] | None:
    """What ``write_tunes`` wrote, or None."""
    try:
        tunes = durable.read_json(directory / FILE)
    except DamagedError:
        return None
    return tunes if isinstance(tunes, dict) and "pass_rate" in tunes else None


@dataclass(frozen=True)
class TrainingMusic:
    """The training tunes as music: their melodies as ``texts``, titles, and places in the corpus.

    ``populations`` has what ``Population`` says of them (``training``), of the held-out tunes (``held_out``)
    and of every other training tune (``halves``), as far as there are any: with their ``divergences`` from
    all training tunes, of the halves from each other, and likewise their ``nearest``.
    """

    texts: Sequence[str]
    titles: Sequence[str]
    indices: Sequence[int]
    populations: dict[str, Any]

    @cached_property
    def melodies(self) -> Melodies:
        """The index of the melodies, made when it is first asked for."""
        return Melodies(self.texts)


def corpus_settings(directory: Path, plan: Plan) -> CorpusSettings | None:
    """The corpus of the model of a songs directory; None where neither the songs nor the run say it."""
    said = (read_tunes(directory) or {}).get("corpus")
    if said is not None:
        return configuration.parse(CorpusSettings, said, str(directory / FILE))
    return run_config(Path(plan.run)).corpus if plan.run and (Path(plan.run) / CONFIG).is_file() else None


def training_music(settings: CorpusSettings) -> TrainingMusic | None:
    """What songs are compared with; None where the corpus is not built. Measured once for each version of it.

    Raises RequestError and IncompleteError as building a corpus does, should its sources have changed.
    """
    from reelmill.corpus.build import corpus_directory, load_or_build

    if not corpus_directory(settings).is_dir():
        return None
    corpus = load_or_build(settings)
    path = corpus.version / _MUSIC
    if not path.is_file():
        with durable.replacing(path) as partial:
            pq.write_table(_measure_music(corpus.tunes), partial, compression="zstd")
    table = pq.read_table(path)
    populations = json.loads(table.schema.metadata[b"populations"])
    columns = table.to_pydict()
    return TrainingMusic(columns["melody"], columns["title"], columns["index"], populations)


def _measure_music(tunes: Any) -> pa.Table:
    """The table that ``training_music`` keeps, of the splits of a corpus."""
    train, train_figures = _read_all(tunes["train"]["text"])
    held_out, held_out_figures = _read_all([*tunes["validation"]["text"], *tunes["test"]["text"]])
    training = _summed(train_figures)
    populations: dict[str, Any] = {"training": training}
    if held_out:
        others = _summed(held_out_figures, held_out, train)
        populations["held_out"] = {**others, "divergences": divergences(others, training)}
    if len(train) > 1:
        halves = [_summed(train_figures[half::2], train[half::2], train[1 - half :: 2]) for half in (0, 1)]
        populations["halves"] = [{**half, "divergences": divergences(*halves)} for half in halves]
    return pa.table(
        {
            "index": pa.array(tunes["train"]["index"], pa.int64()),
            "title": [header(text).get("T", "") for text in tunes["train"]["text"]],
            "melody": train,
        }
    ).replace_schema_metadata({"populations": json.dumps(populations)})


def _read_all(texts: Sequence[str]) -> tuple[list[str], list[Figures]]:
    """The melody and the figures of each tune."""
    scores = map(read_score, texts)
    read = [(melody_text(score), figures(score)) for score in scores]
    return [melody for melody, _ in read], [measured for _, measured in read]


def _summed(
    measured: Sequence[Figures], melodies: Sequence[str] = (), others: Sequence[str] = ()
) -> dict[str, Any]:
    """The figures of a population together; those of its ``melodies`` have their nearest among ``others``."""
    population = Population()
    for tune in measured:
        population.add(tune)
    if others:
        population.add_nearest(Melodies(others).nearest(melodies[:: max(1, len(melodies) // _NEAREST)]))
    return population.to_json()
