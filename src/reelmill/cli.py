"""The command line: parse, call one function, print.

Every command imports what it needs when it runs, so that ``reelmill --help`` answers at once. What a person
reads goes to standard error as it happens and to standard output as a result; with ``--json`` standard output
is one JSON object. Exit codes: 0 done, 1 not complete or not intact, 2 the request is wrong.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from reelmill.errors import IncompleteError, RequestError

if TYPE_CHECKING:
    from reelmill.config import Config


class Command(NamedTuple):
    """A command: what it does in a line, its options, and the function that does it."""

    summary: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.WARNING, format="reelmill: %(message)s", stream=sys.stderr)
    try:
        name, rest = _command_name(arguments)
        command = COMMANDS[name]
        parser = argparse.ArgumentParser(prog=f"reelmill {name}", description=command.summary)
        command.add_options(parser)
        return command.run(parser.parse_intermixed_args(rest))
    except RequestError as error:
        print(f"reelmill: {error}", file=sys.stderr)
        return 2
    except IncompleteError as error:
        print(f"reelmill: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("reelmill: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; say nothing more
        return 1


def _command_name(arguments: list[str]) -> tuple[str, list[str]]:
    """The command that ``arguments`` name and what follows it. Exits for --help and for no such command."""
    names = "\n".join(f"  {name:<16}{command.summary}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="reelmill",
        usage="reelmill COMMAND [options] [section.key=value ...]",
        description="Train a character-level LSTM on ABC music and mill songs by the million.",
        epilog=f"commands:\n{names}\n\nreelmill COMMAND --help shows a command's options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", help=argparse.SUPPRESS)
    for length in (2, 1):
        name = " ".join(arguments[:length])
        if name in COMMANDS:
            return name, arguments[length:]
    if not arguments or arguments[0] in ("-h", "--help"):
        parser.print_help()
        raise SystemExit(0 if arguments else 2)
    parser.error(f"there is no command {arguments[0]!r}; commands are: {', '.join(COMMANDS)}")


# corpus


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
    from reelmill.corpus.build import build
    from reelmill.corpus.statistics import describe

    config = _load_config(options.config, options.overrides)
    built = build(config.corpus)
    if options.json:
        _print_json({"directory": str(built.directory), **built.statistics})
    else:
        print(describe(built.statistics))
        print(f"directory  {built.directory}")
    return 0


def _corpus_show(options: argparse.Namespace) -> int:
    from reelmill.corpus.build import tune_at

    overrides = list(options.overrides)
    if options.source.endswith((".yaml", ".yml")):
        config = _load_config(options.source, overrides)
    else:
        config = _load_config(None, [f"corpus.source={json.dumps(options.source)}", *overrides])
    tune = tune_at(config.corpus, options.index)
    print(tune.text, end="")
    print(f"{tune.source}, {tune.split}", file=sys.stderr)
    if options.play_to:
        from reelmill.songs.render import render_abc

        render_abc(tune.text, config.audio).save(options.play_to)
        print(options.play_to, file=sys.stderr)
    return 0


# training


def _train(options: argparse.Namespace) -> int:
    from reelmill.training.loop import train

    config = _load_config(options.config, options.overrides)
    run = options.run or Path("runs") / Path(options.config).stem
    result = train(config, run)
    print(f"{run}: step {result.step} of {config.training.steps}")
    if not result.finished:
        print(f"stopped; reelmill train {options.config} --run {run} goes on", file=sys.stderr)
    return 0 if result.finished else 1


def _evaluate(options: argparse.Namespace) -> int:
    from reelmill.evaluation import evaluate_run

    scores = evaluate_run(options.run, checkpoint=options.checkpoint, abc=options.abc)
    if options.json:
        _print_json(scores)
    else:
        for name, value in scores.items():
            print(f"{name:<16}{value:.4f}" if isinstance(value, float) else f"{name:<16}{value}")
    return 0


# songs


def _generate(options: argparse.Namespace) -> int:
    from reelmill.songs.generate import generate

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
        overrides.append(f"songs.prompts={json.dumps(prompts)}")
    if options.dry_run:
        return _estimate(options, overrides)
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
    if options.json:
        _print_json(outcome.to_json())
    else:
        print(outcome.describe())
    return 0 if outcome.complete else 1


def _estimate(options: argparse.Namespace, overrides: list[str]) -> int:
    from reelmill.songs.estimate import estimate

    if options.out is None or options.songs is None:
        raise RequestError("--dry-run needs a run, --songs N and --out DIR")
    foretold = estimate(
        options.source,
        options.out,
        options.songs,
        overrides,
        options.checkpoint,
        audio=not options.no_audio,
        seed=options.seed or 0,
    )
    if options.json:
        _print_json(foretold.to_json())
    else:
        print(foretold.describe())
    return 0 if foretold.fits else 1


def _render(options: argparse.Namespace) -> int:
    from reelmill.songs.render import render_directory, render_files

    overrides = [text for text in options.sources if "=" in text and not Path(text).exists()]
    sources = [Path(text) for text in options.sources if text not in overrides]
    if options.backend:
        overrides.append(f"audio.backend={options.backend}")
    if len(sources) == 1 and sources[0].is_dir():
        outcome = render_directory(sources[0], overrides, shard=options.shard, progress=not options.json)
        if options.json:
            _print_json(outcome.to_json())
        else:
            print(outcome.describe())
        return 0 if outcome.complete else 1
    config = _load_config(None, overrides)
    failed = 0
    for made in render_files(sources, options.out, config.audio):
        failed += bool(made.problem)
        print(f"{made.path}: {made.problem or f'{made.seconds:.1f} s'}")
    return 1 if failed else 0


def _collect(options: argparse.Namespace) -> int:
    from reelmill.report.publication import publish_songs
    from reelmill.songs.collect import collect

    config = _load_config(None, options.overrides)
    summary = collect(options.directory)
    archive = publish_songs(options.directory, config.tracking)
    if options.json:
        _print_json(summary)
    else:
        made = [options.directory / name for name in ("index.parquet", "summary.json", "README.md")]
        print(*made, *([archive] if archive else []), sep="\n")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from reelmill.songs.verify import verify

    verification = verify(options.directory)
    if options.json:
        _print_json(verification.to_json())
    else:
        print(verification.describe())
    return 0 if verification.intact else 1


def _audit(options: argparse.Namespace) -> int:
    from reelmill.songs.audit import audit

    result = audit(options.directory, options.songs, options.seed, options.overrides)
    if options.json:
        _print_json(result.to_json())
    else:
        print(result.describe())
    return 0 if result.identical else 1


def _report(options: argparse.Namespace) -> int:
    from reelmill.report.page import results, write_report
    from reelmill.report.results import format_results

    path = write_report(options.directory)
    if (options.directory / "plan.json").is_file():
        print(format_results(results(options.directory)), end="")
    print(path)
    return 0


# cluster


def _status(options: argparse.Namespace) -> int:
    from reelmill.cluster.watch import status, watch

    if options.watch:
        watch(options.directory)
        return 0
    seen = status(options.directory)
    if options.json:
        _print_json(seen.to_json())
    else:
        print(seen.describe())
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from reelmill.cluster.doctor import examine

    found = []
    for finding in examine(options.cluster, options.place, options.wait):
        found.append(finding)
        if not options.json:
            print(finding.describe(), flush=True)
    if options.json:
        _print_json({"findings": [asdict(finding) for finding in found]})
    return int(any(finding.state == "wrong" for finding in found))


# options


def _directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")


def _overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", default=[], metavar="section.key=value", help="settings")


def _directory_json(parser: argparse.ArgumentParser) -> None:
    _directory(parser)
    _json(parser)


def _shard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shard", type=_share, default=(0, 1), metavar="I/K", help="do share I of K, 0 ≤ I < K"
    )


def _share(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and int(number) < int(count):
        return int(number), int(count)
    raise argparse.ArgumentTypeError(f"{text!r}: expected I/K with 0 ≤ I < K, for example 0/4")


def _nothing(_: argparse.ArgumentParser) -> None:
    pass


def _collect_options(parser: argparse.ArgumentParser) -> None:
    _directory(parser)
    _overrides(parser)
    _json(parser)


def _audit_options(parser: argparse.ArgumentParser) -> None:
    _directory(parser)
    _overrides(parser)
    parser.add_argument("--songs", type=int, default=20, metavar="K", help="how many; default 20")
    parser.add_argument("--seed", type=int, metavar="S", help="which ones; default another each time")
    _json(parser)


def _corpus_get_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="see reelmill corpus list")


def _config_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, for example configs/irish.yaml")
    _overrides(parser)


def _corpus_build_options(parser: argparse.ArgumentParser) -> None:
    _config_options(parser)
    _json(parser)


def _corpus_show_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="NAME", help="a named corpus, a path, or a config file")
    _overrides(parser)
    parser.add_argument("--index", type=int, default=0, metavar="I", help="which tune, from 0")
    parser.add_argument("--play-to", type=Path, metavar="FILE.wav", help="render it to this file")


def _train_options(parser: argparse.ArgumentParser) -> None:
    _config_options(parser)
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="run directory; default runs/NAME of the config"
    )


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--abc", type=Path, metavar="FILE", help="score this tune book, not the test split")
    parser.add_argument("--checkpoint", metavar="NAME", help="for example step-000100; default the best")
    _json(parser)


def _generate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, metavar="RUN|DIR", help="a run, or a songs directory to go on with"
    )
    _overrides(parser)
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
    _shard(parser)
    _json(parser)


def _render_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", nargs="+", metavar="DIR | FILE.abc", help="a songs directory, or tune books"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="for tune books: where the audio files go")
    parser.add_argument("--backend", metavar="NAME", help="symusic, timidity or fluidsynth")
    _shard(parser)
    _json(parser)


def _status_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="RUN|DIR", help="a run, or a songs directory")
    parser.add_argument("--watch", action="store_true", help="again every few seconds until it is done")
    _json(parser)


def _doctor_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cluster", type=Path, metavar="FILE", help="check this cluster too")
    parser.add_argument("--place", type=Path, metavar="DIR", default=Path(), help="where runs will lie")
    parser.add_argument(
        "--wait", type=float, metavar="SECONDS", default=300, help="for the probe in the queue"
    )
    _json(parser)


COMMANDS: dict[str, Command] = {
    "corpus list": Command("Named corpora.", _nothing, _corpus_list),
    "corpus get": Command("Fetch named corpora into the cache.", _corpus_get_options, _corpus_get),
    "corpus build": Command("Clean, split and describe a corpus.", _corpus_build_options, _corpus_build),
    "corpus show": Command("Print a tune, or play it to a file.", _corpus_show_options, _corpus_show),
    "train": Command("Train a model; goes on with an unfinished run.", _train_options, _train),
    "evaluate": Command("Held-out bits per character.", _evaluate_options, _evaluate),
    "generate": Command("Make songs, or go on with or grow a songs directory.", _generate_options, _generate),
    "render": Command("Audio for a songs directory or for tune books.", _render_options, _render),
    "collect": Command("Index, summary and dataset card of a songs directory.", _collect_options, _collect),
    "verify": Command("Check that a corpus is complete, intact and exactly once.", _directory_json, _verify),
    "audit": Command("Make random songs again and compare the bytes.", _audit_options, _audit),
    "report": Command("Write report.html for songs or a run.", _directory, _report),
    "status": Command("What is done, running and missing of a run or of songs.", _status_options, _status),
    "doctor": Command("Check this machine, or a cluster, before anyone waits.", _doctor_options, _doctor),
}  # fmt: skip


def _load_config(path: str | Path | None, overrides: Sequence[str]) -> Config:
    from reelmill.config import load

    return load(path, overrides)


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
