"""The plan: one for all, whoever comes first; it grows and never changes otherwise."""

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reelmill.audio.settings import AudioSettings
from reelmill.errors import DamagedError, RequestError
from reelmill.sampling.settings import SamplingSettings
from reelmill.songs.settings import SongsSettings
from reelmill.songs.store.plan import Plan, create_plan, grow_plan, read_plan, require_equal

PLAN = Plan(
    seed=1,
    songs=20,
    audio=True,
    sampling=SamplingSettings(temperature=0.9),
    audio_settings=AudioSettings(),
    songs_settings=SongsSettings(songs_per_shard=8, prompts=["X:1\n", "X:2\nT:é"]),
    model="ab" * 32,
    run="/runs/a",
    checkpoint="step-000100",
    fingerprint={},
)


def test_it_is_read_back_as_written(tmp_path: Path) -> None:
    plan = replace(PLAN, fingerprint={"text": {"torch": "2"}})
    assert create_plan(tmp_path, plan) == plan == read_plan(tmp_path)
    data = json.loads((tmp_path / "plan.json").read_text())
    assert (data["seed"], data["songs"], data["songs_per_shard"]) == (1, 20, 8)
    assert "slots" not in data["settings"]["sampling"], "how songs are computed is no part of a plan"


def test_shards_cover_every_id_once() -> None:
    covered = [PLAN.first(shard) + song for shard in range(PLAN.shards) for song in range(PLAN.count(shard))]
    assert covered == list(range(20))
    assert [PLAN.prompt(song) for song in range(3)] == ["X:1\n", "X:2\nT:é", "X:1\n"]


def _create(directory: Path, seed: int, barrier: Any, seeds: Any) -> None:
    barrier.wait()
    seeds.put(create_plan(directory, replace(PLAN, seed=seed)).seed)


def test_of_many_creators_one_wins_and_all_see_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for round_ in range(5):
        directory = tmp_path / str(round_)
        barrier, seeds = context.Barrier(6), context.Queue()
        creators = [
            context.Process(target=_create, args=(directory, seed, barrier, seeds)) for seed in range(6)
        ]
        for creator in creators:
            creator.start()
        seen = {seeds.get(timeout=60) for _ in creators}
        for creator in creators:
            creator.join()
        assert seen == {read_plan(directory).seed}
        assert [path.name for path in directory.iterdir()] == ["plan.json"]


def grow_at_once(directory: Path, sizes: tuple[int, ...] = (40, 100, 30, 64, 99)) -> Plan:
    """The plan after as many processes have made it grow, each to its own size and under its own name."""
    context = multiprocessing.get_context("fork")
    growers = [context.Process(target=_grow, args=(directory, songs)) for songs in sizes]
    for grower in growers:
        grower.start()
    for grower in growers:
        grower.join()
    plan = read_plan(directory)
    assert plan.fingerprint["text"]["made by"] in map(str, sizes)
    return plan


def _grow(directory: Path, songs: int) -> None:
    grow_plan(directory, songs=songs, fingerprint={"text": {"made by": str(songs)}})


def test_of_many_growers_the_largest_stays(tmp_path: Path) -> None:
    create_plan(tmp_path, PLAN)
    plan = grow_at_once(tmp_path)
    assert plan == replace(PLAN, songs=100, fingerprint=plan.fingerprint)


def test_sound_and_fingerprints_are_added_once(tmp_path: Path) -> None:
    create_plan(tmp_path, replace(PLAN, audio=False))
    flac = AudioSettings(format="flac")
    assert grow_plan(tmp_path, audio=flac).audio_settings == flac
    assert grow_plan(tmp_path, audio=AudioSettings(format="wav")).audio_settings == flac
    grow_plan(tmp_path, fingerprint={"text": {"a": "1"}})
    assert grow_plan(tmp_path, fingerprint={"text": {"a": "2"}}).fingerprint == {"text": {"a": "1"}}


def test_each_difference_is_named() -> None:
    directory = Path("songs")
    require_equal(directory, PLAN, replace(PLAN, songs=21, sampling=replace(PLAN.sampling, slots=7)))
    for wanted, words in [
        (replace(PLAN, seed=2), "seed is 1 in the plan and 2 here"),
        (replace(PLAN, songs=19), "songs is 20 in the plan and 19 here: a plan can only grow"),
        (replace(PLAN, model="cd" * 32), "model is 'abababababab' in the plan and 'cdcdcdcdcdcd' here"),
        (replace(PLAN, sampling=SamplingSettings()), "sampling.temperature is 0.9 in the plan and 1.0 here"),
        (
            replace(PLAN, audio_settings=AudioSettings(channels=1)),
            "audio.channels is 2 in the plan and 1 here",
        ),
        (
            replace(PLAN, songs_settings=SongsSettings()),
            "songs.songs_per_shard is 8 in the plan and 1000 here",
        ),
    ]:
        with pytest.raises(RequestError) as refused:
            require_equal(directory, PLAN, wanted)
        assert words in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"version": 1, "settings": {}}', '{"version": 1, "settings": 5}']
)
def test_a_broken_plan_is_said_to_be_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(DamagedError, match=r"plan\.json"):
        read_plan(tmp_path)


def test_no_plan_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such file"):
        read_plan(tmp_path)
