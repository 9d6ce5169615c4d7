"""``reelmill generate`` and ``render``: songs, and their sound."""

from __future__ import annotations

import argparse
import itertools
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from reelmill.cli.command import Command
from reelmill.cli.options import add_json, add_overrides, add_prompts, add_shard, prompt_overrides
from reelmill.cli.output import print_json, show, songs_exit_code
from reelmill.errors import RequestError

if TYPE_CHECKING:
    from reelmill.audio.settings import AudioSettings


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
    overrides += prompt_overrides(options)
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
    from reelmill.songs.make.render import render_directory
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
    return _render_books(sources, options.out, load(None, overrides).audio, options.json)


def _render_books(books: list[Path], out: Path | None, settings: AudioSettings, as_json: bool) -> int:
    """Render every book that can be read; the others are named, and the exit code is 1."""
    from reelmill.songs.make.render import Rendered, render_files

    missing = [str(book) for book in books if not book.is_file()]
    if missing:
        raise RequestError(f"{', '.join(missing)}: no such file")
    problems = _problems(list(dict.fromkeys(books)), out)
    readable = [book for book, problem in problems.items() if not problem]
    if not readable:
        raise RequestError("; ".join(f"{book}: {problem}" for book, problem in problems.items()))
    refused = (Rendered(book, problem, 0.0) for book, problem in problems.items() if problem)
    renderings = []
    for made in itertools.chain(refused, render_files(readable, out, settings)):
        renderings.append(made)
        if not as_json:
            print(f"{made.path}: {made.problem or f'{made.seconds:.1f} s'}")
    if as_json:
        print_json({"files": [{**asdict(made), "path": str(made.path)} for made in renderings]})
    return 1 if any(made.problem for made in renderings) else 0


def _problems(books: list[Path], out: Path | None) -> dict[Path, str]:
    """Why a book cannot be rendered beside those before it, empty if it can be."""
    from reelmill.corpus.books import check_book, read_book
    from reelmill.songs.make.render import is_file_name

    to_file = out is not None and is_file_name(out)
    problems: dict[Path, str] = {}
    owners: dict[Path, Path] = {}  # of files of sound, without what the format adds to their names
    for book in books:
        try:
            check_book(book)
            tunes = sum(1 for _ in read_book(book))
        except RequestError as error:
            problems[book] = str(error).removeprefix(f"{book}: ")
            continue
        folder = out.parent if out and to_file else out or book.parent
        names = [book.stem] if tunes == 1 else [f"{book.stem}-{number}" for number in range(1, tunes + 1)]
        names = [out.stem] if out and to_file else names
        other = next((owners[folder / name] for name in names if folder / name in owners), None)
        if not tunes:
            problems[book] = "no tune in it (a tune begins with X:)"
        elif to_file and tunes > 1:
            problems[book] = f"{tunes} tunes do not fit in {out}; --out DIR takes them all"
        elif other:
            problems[book] = f"its sound would have the name of that of {other}; give it another --out"
        else:
            problems[book] = ""
            owners.update((folder / name, book) for name in names)
    return problems


def _generate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, metavar="RUN|DIR", help="a run, or a songs directory to go on with"
    )
    add_overrides(parser)
    parser.add_argument(
        "--songs", type=int, metavar="N", help="how many in all; default as many as are planned"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the songs directory to make; default: to go on with DIR"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="of the random choices; default 0")
    parser.add_argument("--checkpoint", metavar="NAME", help="for example step-000100; default the best")
    for name, letter, words in (
        ("temperature", "T", "below 1 the songs are safer, above 1 wilder; default sampling.temperature"),
        ("top-p", "P", "choose among the characters that make up this probability; default sampling.top_p"),
    ):
        parser.add_argument(f"--{name}", type=float, metavar=letter, help=f"{words} of the run")
    parser.add_argument(
        "--top-k",
        type=int,
        metavar="K",
        help="choose among so many characters; default sampling.top_k of the run",
    )
    add_prompts(parser)
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
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="for tune books: the folder of the audio files; default beside each. FILE.wav for one tune",
    )
    parser.add_argument("--backend", metavar="NAME", help="symusic (default), timidity or fluidsynth")
    add_shard(parser)
    add_json(parser)


COMMANDS = {
    "generate": Command(
        "Make songs, or go on with or grow a songs directory.",
        "reelmill generate runs/irish --songs 1000 --out songs/irish --temperature 0.9",
        _generate_options,
        _generate,
    ),
    "render": Command(
        "Audio for a songs directory or for tune books.",
        "reelmill render tunes.abc --out sound audio.format=flac",
        _render_options,
        _render,
    ),
}
