"""The shorter form of ``make chaos-generate``: a kill a phase, each harm, a full disk."""

from collections import Counter
from pathlib import Path

import generate
import pytest
from harm import HARMS
from story import WAYS
from watched import PHASES


@pytest.mark.slow
def test_kills_damage_and_a_full_disk_leave_no_trace(tmp_path: Path) -> None:
    story = generate.chaos(tmp_path, songs=600, kills=5, full_disks=1, seed=1, say=print)
    phases = Counter(kill.phase for kill in story.kills)
    assert all(phases[phase] >= 1 for phase in PHASES), phases
    assert {kill.way for kill in story.kills} == set(WAYS)
    assert all(story.harms[f"{kind} {name}"] for kind in ("text", "audio") for name in HARMS)
    assert sum(story.full_disks.values()) == 1
