"""What this machine makes songs with, compared with the plan's fingerprint before it makes the first."""

from __future__ import annotations

import logging
from pathlib import Path

from reelmill.config import Config
from reelmill.errors import RequestError
from reelmill.model import TrainedModel
from reelmill.sampling.engine import EDITION, Engine, emulates
from reelmill.songs.make.fingerprint import (
    audio_fingerprint,
    differing,
    same_bytes,
    text_fingerprint,
    way_out,
)
from reelmill.songs.make.pool import Pool
from reelmill.songs.store.manifest import Kind
from reelmill.songs.store.plan import Plan, grow_plan, plan_path, read_plan

_log = logging.getLogger(__name__)


class Machine:
    """The engine and the synthesizer; without a ``model`` there is no engine.

    Each of the two raises RequestError if this machine would make other bytes than the plan's other workers.
    """

    def __init__(
        self, directory: Path, plan: Plan, config: Config, model: TrainedModel | None, pool: Pool
    ) -> None:
        self.pool = pool
        self._directory, self._plan, self._config, self._model = directory, plan, config, model
        self._engine: Engine | None = None
        self._sounds = False

    @property
    def samples(self) -> bool:
        """Whether there is an engine."""
        return self._model is not None

    def engine(self) -> Engine | None:
        """What samples; made and compared when it is asked for first."""
        if self._engine is None and self._model is not None:
            sampling, seed = self._config.sampling, self._plan.seed
            if emulates(sampling):
                _log.warning(
                    "sampling.precision = %r is emulated by this processor: float32 and int8 are many times "
                    "as fast, but make other songs, so they need a directory of their own",
                    sampling.precision,
                )
            seen = text_fingerprint(self._model, sampling, seed, self.pool)
            require_same_bytes(self._directory, "text", seen)
            self._engine = Engine(self._model, sampling, seed)
        return self._engine

    def check_sound(self) -> None:
        """Compare how the pool's processes record songs, once."""
        if not self._sounds:
            seen = audio_fingerprint(self._config.audio, self.pool)
            require_same_bytes(self._directory, "audio", seen)
            self._sounds = True


def require_edition(directory: Path, plan: Plan) -> None:
    """Refuse a plan whose songs another edition samples: were it to grow, it would never be complete."""
    planned, seen = plan.fingerprint.get("text"), {"sampling": EDITION}
    if planned is not None and planned.get("sampling") != EDITION:
        raise RequestError(f"{plan_path(directory)}: {way_out(planned, seen)}")


def require_same_bytes(directory: Path, half: Kind, seen: dict[str, str]) -> None:
    """Refuse to work where this machine would make other bytes than the plan's other workers.

    The first worker of a half writes its fingerprint into the plan; of several, one comes first.
    """
    planned = read_plan(directory).fingerprint.get(half)
    if planned is None:
        planned = grow_plan(directory, fingerprint={half: seen}).fingerprint[half]
    differences, advice = "; ".join(differing(planned, seen)), way_out(planned, seen)
    if not same_bytes(planned, seen):
        refusal = f"this machine would not make the same {half}: {differences}. {advice}"
        raise RequestError(f"{plan_path(directory)}: {refusal.strip()}")
    if "processor is" in differences:
        _log.warning("the probes agree, but %s: rare songs may differ. %s", differences, advice)
    elif differences:
        _log.warning("the same bytes, but %s", differences)
