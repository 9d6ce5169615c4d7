"""``reelmill corpus``: the tunes a model is trained on."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from reelmill.cli.command import Command
from reelmill.cli.options import add_config, add_json, add_nothing, add_overrides
from reelmill.cli.output import print_json


def _corpus_list(_: argparse.Namespace) -> int:
    from reelmill.corpus.named import NAMES

    for name, corpus in NAMES.items():
        print(f"{name:<14}{corpus.description}")
    return 0


def _corpus_get(options: argparse.Namespace) -> int:
    from reelmill.corpus.named import get

    for name in options.names:
        print(f"{name}: {get(name)}")
    return 0


def _corpus_build(options: argparse.Namespace) -> int:
    from reelmill.config import load
    from reelmill.corpus.build import build
    from reelmill.corpus.statistics import describe

    config = load(options.config, options.overrides)
    built = build(config.corpus)
    if options.json:
        print_json({"directory": str(built.directory), **built.statistics})
    else:
        print(describe(built.statistics))
        print(f"directory  {built.directory}")
    return 0


def _corpus_show(options: argparse.Namespace) -> int:
    from reelmill.config import load
    from reelmill.corpus.build import tune_at
    from reelmill.songs.make.render import render_abc, sound_format

    if options.play_to:
        sound_format(options.play_to)
    overrides = list(options.overrides)
    if options.source.endswith((".yaml", ".yml")):
        config = load(options.source, overrides)
    else:
        config = load(None, [f"corpus.source={json.dumps(options.source)}", *overrides])
    tune = tune_at(config.corpus, options.index)
    print(tune.text, end="")
    print(f"{tune.source}, {tune.split}", file=sys.stderr)
    if options.play_to:
        render_abc(tune.text, config.audio).save(options.play_to)
        print(options.play_to, file=sys.stderr)
    return 0


def _corpus_get_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="see reelmill corpus list")


def _corpus_build_options(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser)


def _corpus_show_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="NAME", help="a named corpus, a path, or a config file")
    add_overrides(parser)
    parser.add_argument("--index", type=int, default=0, metavar="I", help="which tune, from 0")
    parser.add_argument(
        "--play-to", type=Path, metavar="FILE.wav", help="render it to this file, .wav or .flac"
    )


COMMANDS = {
    "corpus list": Command("Named corpora.", "reelmill corpus list", add_nothing, _corpus_list),
    "corpus get": Command(
        "Fetch named corpora into the cache.",
        "reelmill corpus get irish traditional",
        _corpus_get_options,
        _corpus_get,
    ),
    "corpus build": Command(
        "Clean, split and describe a corpus.",
        "reelmill corpus build configs/irish.yaml",
        _corpus_build_options,
        _corpus_build,
    ),
    "corpus show": Command(
        "Print a tune, or play it to a file.",
        "reelmill corpus show irish --index 3 --play-to x.wav",
        _corpus_show_options,
        _corpus_show,
    ),
}
