"""``reelmill generate`` and ``render``: songs, and their sound."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from reelmill.cli.command import Command
from reelmill.cli.options import add_json, add_overrides, add_shard
from reelmill.cli.output import print_json, show, songs_exit_code
from reelmill.errors import RequestError


def _generate(options: argparse.Namespace) -> int:
    from reelmill.songs.make.generate import generate
    from reelmill.songs.results.publishing import published_live

    shortcuts = {
        "sampling.temperature": options.temperature,
        "sampling.top_p": options.top_p,
        "sampling.top_k": options.top_k,
    }
    overrides = [
        *options.overrides,
        *(f"{key}={value}" for key, value in shortcuts.items() if value is not None),
    ]
    if options.prompt:
        prompts = [prompt.replace("\\n", "\n") for prompt in options.prompt]
        overrides.append(f"songs.prompts={json.dumps(prompts, ensure_ascii=False)}")
    if options.dry_run:
        return _estimate(options, overrides)
    with published_live(options.out or options.source, options.overrides):
        outcome = generate(
            options.source,
            options.out,
            songs=options.songs,
            overrides=overrides,
            seed=options.seed,
            shard=options.shard,
            checkpoint=options.checkpoint,
            audio=not options.no_audio,
            progress=not options.json,
        )
    show(outcome, options.json)
    return songs_exit_code(outcome.complete, outcome.songs)


def _estimate(options: argparse.Namespace, overrides: list[str]) -> int:
    from reelmill.songs.results.forecast import estimate, estimate_rest
    from reelmill.songs.store.plan import plan_path

    audio, seed = not options.no_audio, options.seed
    if options.out is None:
        foretold = estimate_rest(
            options.source, options.songs, overrides, audio, seed, checkpoint=options.checkpoint
        )
    elif plan_path(options.out).is_file():
        foretold = estimate_rest(options.out, options.songs, overrides, audio, seed)
    elif options.songs is None:
        raise RequestError(f"{options.out}: a new songs directory needs --songs N")
    else:
        foretold = estimate(
            options.source, options.out, options.songs, overrides, options.checkpoint, audio, seed or 0
        )
    show(foretold, options.json)
    return 0 if foretold.fits else 1


def _render(options: argparse.Namespace) -> int:
    from reelmill.config import load
    from reelmill.songs.make.render import render_directory, render_files
    from reelmill.songs.results.publishing import published_live

    overrides = [text for text in options.sources if "=" in text and not Path(text).exists()]
    sources = [Path(text) for text in options.sources if text not in overrides]
    if options.backend:
        overrides.append(f"audio.backend={options.backend}")
    if len(sources) == 1 and sources[0].is_dir():
        with published_live(sources[0], overrides):
            outcome = render_directory(sources[0], overrides, shard=options.shard, progress=not options.json)
        show(outcome, options.json)
        return songs_exit_code(outcome.complete, outcome.songs)
    config = load(None, overrides)
    all_made = []
    for made in render_files(sources, options.out, config.audio):
        all_made.append(made)
        if not options.json:
            print(f"{made.path}: {made.problem or f'{made.seconds:.1f} s'}")
    if options.json:
        print_json({"files": [{**asdict(made), "path": str(made.path)} for made in all_made]})
    return 1 if any(made.problem for made in all_made) else 0


def _generate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, metavar="RUN|DIR", help="a run, or a songs directory to go on with"
    )
    add_overrides(parser)
    parser.add_argument("--songs", type=int, metavar="N")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the songs directory to make")
    parser.add_argument("--seed", type=int, metavar="S", help="default 0")
    parser.add_argument("--checkpoint", metavar="NAME", help="for example step-000100; default the best")
    parser.add_argument("--temperature", type=float, metavar="T")
    parser.add_argument("--top-p", type=float, metavar="P")
    parser.add_argument("--top-k", type=int, metavar="K")
    parser.add_argument(
        "--prompt", action="append", metavar="TEXT", help=r"text songs begin with; \n is a new line"
    )
    parser.add_argument(
        "--no-audio", action="store_true", help="text and MIDI only; reelmill render adds audio"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what it will take; make nothing")
    add_shard(parser)
    add_json(parser)


def _render_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", nargs="+", metavar="DIR | FILE.abc", help="a songs directory, or tune books"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="for tune books: where the audio files go")
    parser.add_argument("--backend", metavar="NAME", help="symusic, timidity or fluidsynth")
    add_shard(parser)
    add_json(parser)


COMMANDS = {
    "generate": Command("Make songs, or go on with or grow a songs directory.", _generate_options, _generate),
    "render": Command("Audio for a songs directory or for tune books.", _render_options, _render),
}
