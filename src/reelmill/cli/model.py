"""``reelmill train``, ``evaluate`` and ``push``: a model."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from reelmill.cli.command import Command
from reelmill.cli.options import add_config, add_json, add_run, run_directory
from reelmill.cli.output import print_json, show


def _train(options: argparse.Namespace) -> int:
    from reelmill.config import load
    from reelmill.training.loop import train
    from reelmill.training.processes import said_once

    with said_once():
        config = load(options.config, options.overrides)
    run = run_directory(options)
    result = train(config, run)
    if int(os.environ.get("RANK") or 0) == 0:
        print(f"{run}: step {result.step} of {config.training.steps}")
        if not result.finished:
            print("stopped; the same command goes on", file=sys.stderr)
    return 0 if result.finished else 1


def _evaluate(options: argparse.Namespace) -> int:
    from reelmill.evaluation import evaluate_run

    scores = evaluate_run(options.run, checkpoint=options.checkpoint, abc=options.abc)
    if options.json:
        print_json(scores)
    else:
        for name, value in scores.items():
            print(f"{name:<16}{value:.4f}" if isinstance(value, float) else f"{name:<16}{value}")
    return 0


def _push(options: argparse.Namespace) -> int:
    from reelmill.hub import push

    show(push(options.run, options.repository, options.checkpoint, options.dry_run), options.json)
    return 0


def _train_options(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_run(parser)
    # torchrun takes --run for its own --run-path, wherever it stands.
    parser.add_argument("--out", dest="run", type=Path, metavar="DIR", help="the same, behind torchrun")


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--abc", type=Path, metavar="FILE", help="score this tune book, not the test split")
    parser.add_argument("--checkpoint", metavar="NAME", help="for example step-000100; default the best")
    add_json(parser)


def _push_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("repository", metavar="OWNER/NAME", help="made private if it is new")
    parser.add_argument("--checkpoint", metavar="NAME", help="for example step-000100; default the best")
    parser.add_argument("--dry-run", action="store_true", help="write RUN/hub and send nothing")
    add_json(parser)


COMMANDS = {
    "train": Command(
        "Train a model; goes on with an unfinished run.",
        "reelmill train configs/irish.yaml --run runs/irish",
        _train_options,
        _train,
    ),
    "evaluate": Command(
        "Held-out bits per character.", "reelmill evaluate runs/irish", _evaluate_options, _evaluate
    ),
    "push": Command(
        "The best model, with a card, to the Hugging Face Hub.",
        "reelmill push runs/irish OWNER/NAME",
        _push_options,
        _push,
    ),
}
