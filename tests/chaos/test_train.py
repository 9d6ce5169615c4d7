"""The shorter form of ``make chaos-train``: two processes, each phase met by a kill and by a wish to stop."""

from collections import Counter
from pathlib import Path

import pytest
import train

from reelmill.corpus import named
from reelmill.errors import RequestError


@pytest.mark.slow
def test_kills_leave_no_trace(tmp_path: Path) -> None:
    try:
        named.get("irish")
    except RequestError as error:
        pytest.skip(f"needs a network once: {error}")
    kills = train.chaos(tmp_path, kills=8, seed=1, worlds=(2,), steps=60, say=print)
    assert len(kills) >= 8
    phases = Counter(kill.phase for kill in kills)
    assert all(phases[phase] >= 1 for phase in train.PHASES), phases
