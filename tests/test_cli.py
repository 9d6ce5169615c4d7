"""The command line: fast to answer, and clear about what is wrong."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from reelmill.cli import COMMANDS, main
from reelmill.cli.parser import parse


def test_help_imports_nothing_heavy() -> None:
    """What a user feels as speed is imports: none of the slow ones, and few modules in all."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "reelmill", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time" in line}
    heavy = {"torch", "datasets", "comet_ml", "pandas", "numpy", "scipy", "matplotlib", "pydantic", "yaml"}
    assert not imported & heavy
    assert "reelmill.cli" in imported and len(imported) < 200
    for name in COMMANDS:
        assert name in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert COMMANDS[name].summary in said
    assert f"example:\n\n    {COMMANDS[name].example}\n" in said  # on a line of its own, however narrow


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_can_be_parsed(name: str) -> None:
    words = shlex.split(COMMANDS[name].example)
    assert words[0] == "reelmill"
    assert parse(words[1:], COMMANDS)[0] is COMMANDS[name]


def test_help_names_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in (
        (["audit", "-h"], "default 20"),
        (["doctor", "-h"], "(default: 300)"),
        (["generate", "-h"], "default 0/1"),
        (["corpus", "show", "-h"], "from 0 (default: 0)"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        said = " ".join(capsys.readouterr().out.split())
        assert expected in said and "default: None" not in said and "default: []" not in said


def test_version_and_help_of_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in (
        (["--version"], "reelmill 0."),
        (["corpus", "--help"], "reelmill corpus build"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "there is no command 'trian'"),
        (["train", "none.yaml"], "none.yaml: no such file"),
        (["generate", "none", "--shard", "4/4"], "expected I/K"),
        (["corpus", "get", "none"], "named are irish, traditional"),
    ],
)
def test_a_wrong_request_exits_with_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    captured = capsys.readouterr()
    assert code == 2 and expected in captured.err and "Traceback" not in captured.err


def test_overrides_may_stand_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text("")
    wrong = "training.stesp=1"
    for arguments in (
        ["train", str(tmp_path / "a.yaml"), wrong, "--run", str(tmp_path / "r")],
        ["train", "--run", str(tmp_path / "r"), str(tmp_path / "a.yaml"), wrong],
    ):
        assert main(arguments) == 2
        assert "did you mean 'training.steps'" in capsys.readouterr().err


REEL = "X:1\nT:Reel\nM:4/4\nL:1/8\nK:G\n|:GABG d2BG|ABcA dcBA|GABG d2BG|dcBA G4:|\n"


def test_a_book_that_cannot_be_rendered_is_named_and_keeps_no_other_from_its_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    books = {"good": REEL, "prose": "no tune yet\n", "twin-1": REEL, "twin": f"{REEL}\n{REEL}", "wide": ""}
    (tmp_path / "other").mkdir()
    files = [tmp_path / f"{name}.abc" for name in books] + [tmp_path / "other" / "good.abc"]
    for file, text in zip(files, [*books.values(), REEL], strict=True):
        file.write_text(text)
    (tmp_path / "wide.abc").write_bytes(REEL.encode("utf-16")[:-1])
    sound = ["audio.sample_rate=8000", "audio.channels=1"]
    assert main(["render", *map(str, files), str(files[0]), "--out", str(tmp_path / "out"), *sound]) == 1
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"good.wav", "twin-1.wav"}
    said = capsys.readouterr().out
    for name, problem in {
        "prose.abc": "no tune in it",
        "twin.abc": f"its sound would have the name of that of {tmp_path / 'twin-1.abc'}",
        "wide.abc": "not UTF-16",
        "other/good.abc": "its sound would have the name",
    }.items():
        assert f"{tmp_path / name}: {problem}" in said
    assert main(["render", str(tmp_path / "prose.abc"), *sound]) == 2
    assert main(["render", str(tmp_path / "other" / "good.abc"), *sound]) == 0
    assert (tmp_path / "other" / "good.wav").exists()


def test_sound_goes_to_a_file_that_is_named_as_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one.abc", tmp_path / "two.abc"
    one.write_text(REEL)
    two.write_text(f"{REEL}\n{REEL}")
    sound = ["audio.sample_rate=8000", "audio.channels=1"]
    for book, out, said in (
        (one, "x.mp3", "x.mp3: no .mp3 is written; end the name in .wav or .flac"),
        (two, "x.wav", "2 tunes do not fit in"),
    ):
        assert main(["render", str(book), "--out", str(tmp_path / out), *sound]) == 2
        assert said in capsys.readouterr().err and not (tmp_path / out).exists()
    for name, magic in {"x.wav": b"RIFF", "x.flac": b"fLaC"}.items():
        assert main(["render", str(one), "--out", str(tmp_path / name), *sound]) == 0
        assert (tmp_path / name).read_bytes().startswith(magic)
    assert main(["corpus", "show", str(one), "--play-to", str(tmp_path / "x.mp3")]) == 2
    assert "x.mp3: no .mp3 is written" in capsys.readouterr().err
