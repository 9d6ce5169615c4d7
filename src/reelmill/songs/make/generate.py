"""``reelmill generate``: bring a songs directory to what its plan says, or one share of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reelmill import config as configuration
from reelmill.config import Config
from reelmill.errors import DamagedError, RequestError
from reelmill.layout import is_run
from reelmill.model import TrainedModel
from reelmill.runs import find_checkpoint, load_model, run_config
from reelmill.songs.make.fingerprint import require_edition
from reelmill.songs.make.launch import produce
from reelmill.songs.store.manifest import KINDS
from reelmill.songs.store.model_copy import keep_model, kept_model, model_hash
from reelmill.songs.store.plan import Plan, create_plan, grow_plan, plan_path, read_plan, require_equal
from reelmill.songs.store.prompts import check_prompts
from reelmill.songs.store.totals import Outcome


def generate(
    source: Path,
    out: Path | None = None,
    *,
    songs: int | None = None,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    shard: tuple[int, int] = (0, 1),
    checkpoint: str | None = None,
    audio: bool = True,
    progress: bool = True,
) -> Outcome:
    """Make what has no intact manifest in share ``shard`` (I of K) of a songs directory.

    ``source`` is a run, whose songs go to ``out``, or a songs directory to go on with. What has been planned
    once stays: ``songs`` may grow, any other difference is refused by key. With ``audio`` False only text is
    made now; a new plan then has no sound until ``reelmill render`` adds it. Whoever has finished its share
    goes on with shards that nobody has begun.

    Raises RequestError if the request cannot be met, before any song is made, or if the disk is full; what is
    finished stays. Faults of the machine are in the outcome.
    """
    if out is None or _same_place(source, out):
        directory = source
        plan, wanted, config = _asked(source, songs, overrides, seed, checkpoint)
        plan = _agree(source, plan, wanted)
        model = _kept_or_copied(directory, plan)
    else:
        directory = out
        plan, config, model = plan_from_run(source, out, songs, overrides, seed, checkpoint, audio)
        keep_model(directory, model)
    halves = KINDS if audio and plan.audio else KINDS[:1]
    return produce(
        directory,
        plan,
        config,
        model,
        shard=shard,
        halves=halves,
        progress=progress,
    )


def look_ahead(
    directory: Path,
    songs: int | None = None,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    checkpoint: str | None = None,
) -> tuple[Plan, Config, TrainedModel]:
    """What ``generate`` would go on with in a songs directory: plan, config and model. Nothing is changed."""
    plan, wanted, config = _asked(directory, songs, overrides, seed, checkpoint)
    require_equal(directory, plan, wanted)
    return replace(wanted, songs=max(plan.songs, wanted.songs)), config, kept_model(directory, plan.model)


def check_count(songs: int | None) -> None:
    """RequestError if not even one song is asked for."""
    if songs is not None and songs < 1:
        raise RequestError(f"--songs {songs}: at least 1")


def _asked(
    directory: Path, songs: int | None, overrides: Sequence[str], seed: int | None, checkpoint: str | None
) -> tuple[Plan, Plan, Config]:
    """The plan of a songs directory, the plan that is asked for, and its config."""
    check_count(songs)
    if checkpoint is not None:
        raise RequestError(f"--checkpoint {checkpoint}: {directory} has its own copy of the model")
    if not plan_path(directory).is_file():
        if is_run(directory):
            raise RequestError(
                f"{directory}: a run, not a songs directory; --out DIR says where its songs are to lie"
            )
        raise RequestError(
            f"{directory}: not a songs directory (no plan.json); "
            "to make one of a run: reelmill generate RUN --songs N --out DIR"
        )
    plan = read_plan(directory)
    planned = configuration.to_dict(plan.config())
    config = configuration.from_dict(planned, str(plan_path(directory)), overrides)
    return plan, _wanted(plan, config, songs, seed), config


def plan_from_run(
    run: Path,
    directory: Path,
    songs: int | None = None,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    checkpoint: str | None = None,
    audio: bool = True,
) -> tuple[Plan, Config, TrainedModel]:
    """The plan of ``directory``, made for ``run`` if there is none, its config, and the run's model."""
    check_count(songs)
    config = configuration.from_dict(configuration.to_dict(run_config(run)), str(run), overrides)
    found = find_checkpoint(run, checkpoint)
    model = load_model(run, checkpoint)
    check_prompts(config, model)
    hashed = model_hash(model)
    if plan_path(directory).is_file():
        plan = read_plan(directory)
    elif songs is None:
        raise RequestError(f"{directory}: a new songs directory needs --songs N")
    else:
        plan = create_plan(
            directory,
            Plan(
                seed=seed or 0,
                songs=songs,
                audio=audio,
                sampling=config.sampling,
                audio_settings=config.audio,
                songs_settings=config.songs,
                model=hashed,
                run=str(run.absolute()),
                checkpoint=found.name,
                fingerprint={},
                tracking=config.tracking,
            ),
        )
    # Whoever came second in a race to create it is checked like everyone who comes later.
    return _agree(directory, plan, replace(_wanted(plan, config, songs, seed), model=hashed)), config, model


def _wanted(plan: Plan, config: Config, songs: int | None, seed: int | None) -> Plan:
    return replace(
        plan,
        sampling=config.sampling,
        audio_settings=config.audio,
        songs_settings=config.songs,
        songs=plan.songs if songs is None else songs,
        seed=plan.seed if seed is None else seed,
    )


def _agree(directory: Path, plan: Plan, wanted: Plan) -> Plan:
    require_equal(directory, plan, wanted)
    if wanted.songs <= plan.songs:
        return plan
    require_edition(directory, plan)
    return grow_plan(directory, songs=wanted.songs)


def _kept_or_copied(directory: Path, plan: Plan) -> TrainedModel:
    """The model's copy, made again from the run if it is missing or damaged and the run still has it."""
    try:
        return kept_model(directory, plan.model)
    except DamagedError as damage:
        try:
            model = load_model(Path(plan.run), plan.checkpoint)
        except (RequestError, DamagedError):
            raise damage from None
        if model_hash(model) != plan.model:
            raise damage from None
        keep_model(directory, model)
        return model


def _same_place(source: Path, out: Path) -> bool:
    return source.resolve() == out.resolve()
