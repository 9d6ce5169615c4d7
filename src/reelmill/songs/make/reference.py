"""What the training tunes are like, validated as attempts are: what every pass rate stands beside."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.corpus.settings import CorpusSettings
from reelmill.errors import DamagedError, IncompleteError, RequestError
from reelmill.songs.make.validate import validate
from reelmill.songs.store.plan import read_plan
from reelmill.songs.store.song import TIERS

FILE = "tunes.json"
_SAMPLE = 400  # tunes, spread evenly: the rates are good to a few per cent
_log = logging.getLogger(__name__)


def write_tunes(directory: Path, settings: CorpusSettings) -> None:
    """Write ``directory``/tunes.json if it is not there: pass rates and lengths of the training tunes.

    A machine that has no corpus makes songs all the same; a later one that has it fills the gap.
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
        durable.write_json(path, {"source": settings.source, **measure_tunes(texts, tempos)})
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
