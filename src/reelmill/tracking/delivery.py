"""The process that talks to Comet, apart from training so that neither can hold up or bring down the other.

    python -m reelmill.tracking.delivery archive DIR    makes DIR/comet/KEY.zip, for `comet upload`
    python -m reelmill.tracking.delivery follow DIR     sends what is new, now and at each line of its input

``archive`` replays the outbox from the start, less what Comet has confirmed online: a kill may leave no
archive or an old one, never a wrong one, and running it again makes it. ``follow`` ends with its input.
Source code, environment, packages, git and host names are not logged.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import resource
import select
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.tracking.outbox import Experiment, Media, Outbox, Position

NO_KEY = 3  # exit status: no Comet key is configured
_MEMORY = 8 << 30  # bytes of address space
_FLUSH = 60  # seconds to wait for Comet to confirm


def main(arguments: list[str]) -> int:
    """Run one of the two commands; the exit status is 0 if all was delivered."""
    command, directory = arguments
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY if hard < 0 else min(_MEMORY, hard), hard))
    os.environ["COMET_DISABLE_ANNOUNCEMENT"] = "1"
    os.environ["COMET_ERROR_TRACKING_ENABLE"] = "false"  # it would send host details to a third party
    outbox = Outbox(Path(directory))
    return {"archive": archive, "follow": follow}[command](outbox)


def archive(outbox: Outbox) -> int:
    """Replay the outbox into an offline archive, checked and put in its place atomically."""
    experiment = outbox.experiment()
    place = outbox.folder / f"{experiment.key}.zip"
    workshop = durable.temporary(outbox.folder / "archive")
    workshop.mkdir()
    try:
        comet = _start(experiment, online=False, offline_directory=workshop)
        _deliver(comet, experiment, outbox, outbox.position())
        comet.end()
        (made,) = workshop.glob("*.zip")
        with zipfile.ZipFile(made) as contents:
            names = set(contents.namelist())
            if contents.testzip() is not None or not {"experiment.json", "messages.json"} <= names:
                print(f"{made}: Comet left an incomplete archive", file=sys.stderr)
                return 1
        durable.sync(made)
        made.replace(place)
        durable.sync(outbox.folder)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return 0


def follow(outbox: Outbox) -> int:
    """Send what is new until standard input ends or the parent is gone; remember what Comet confirmed."""
    import comet_ml.config

    if not comet_ml.config.get_api_key(None, comet_ml.config.get_config()):
        return NO_KEY
    parent = os.getppid()
    experiment = outbox.experiment()
    workshop = durable.temporary(outbox.folder / "online")  # for what Comet's own fallback would leave
    workshop.mkdir()
    try:
        with _alone(outbox.folder / "lock"):
            comet = _start(experiment, online=True, offline_directory=workshop)
            sent = _send(comet, experiment, outbox, outbox.position())
            while os.getppid() == parent:
                readable, _, _ = select.select([sys.stdin], [], [], 10)
                if readable and not os.read(sys.stdin.fileno(), 65536):
                    break
                sent = _send(comet, experiment, outbox, sent)
            _send(comet, experiment, outbox, sent)
            confirmed = _confirmed(comet)
            comet.end()
            return 0 if confirmed else 1
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _start(experiment: Experiment, online: bool, offline_directory: Path) -> Any:
    import comet_ml

    off = dict.fromkeys(
        [
            "log_code",
            "log_graph",
            "parse_args",
            "log_git_metadata",
            "log_git_patch",
            "log_env_details",
            "log_env_gpu",
            "log_env_host",
            "log_env_cpu",
            "log_env_network",
            "log_env_disk",
            "auto_output_logging",
            "auto_param_logging",
            "auto_metric_logging",
            "auto_log_co2",
        ],
        False,
    )
    settings: dict[str, Any] = {**off, "display_summary_level": 0, "name": experiment.name}
    return comet_ml.start(
        online=online,
        mode="get_or_create",  # jobs of one run, and archives of one run, are one experiment
        experiment_key=experiment.key,
        project_name=experiment.project,
        workspace=experiment.workspace or None,
        experiment_config=comet_ml.ExperimentConfig(**settings, offline_directory=str(offline_directory)),
    )


def _send(comet: Any, experiment: Experiment, outbox: Outbox, since: Position) -> Position:
    position = _deliver(comet, experiment, outbox, since)
    if position != since and _confirmed(comet):
        outbox.remember(position)
    return position


def _confirmed(comet: Any) -> bool:
    """Whether Comet has everything handed over so far."""
    return bool(comet.flush(timeout=_FLUSH)) and bool(comet.streamer.has_connection_to_server())


def _deliver(comet: Any, experiment: Experiment, outbox: Outbox, since: Position) -> Position:
    """Hand what is new since a position over to Comet; the position after it."""
    records, media, position = outbox.news(since)
    parameters = _flat(experiment.parameters)
    digest = hashlib.sha256(json.dumps(parameters).encode()).hexdigest()
    if since.parameters != digest:
        comet.log_parameters(parameters)
        position = replace(position, parameters=digest)
    for record in records:
        numbers = {
            f"{record.get('kind', 'train')}/{name}": value
            for name, value in record.items()
            if isinstance(value, (int, float)) and name not in ("step", "time")
        }
        comet.log_metrics(numbers, step=record["step"])
    for item in media:
        _deliver_media(comet, item)
    return position


def _deliver_media(comet: Any, item: Media) -> None:
    if "abc" in item.files:
        text = item.files["abc"].read_text(encoding="utf-8")
        comet.log_text(text, step=item.step, metadata={"song": item.name})
    if "audio" in item.files:
        path = item.files["audio"]
        comet.log_audio(
            str(path),
            file_name=f"{item.name}{path.suffix}",
            step=item.step,
            metadata={"song": item.name},
            overwrite=True,
        )
    if "table" in item.files:
        path = item.files["table"]
        comet.log_asset(str(path), file_name=f"{item.name}{path.suffix}", overwrite=True, step=item.step)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = json.dumps(value) if isinstance(value, list) else value
    return flat


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until the follower of a job that was killed has ended: two at once would send things twice."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
