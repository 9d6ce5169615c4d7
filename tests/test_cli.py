"""The command line: fast to answer, and clear about what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from reelmill.cli import COMMANDS, main


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
    assert COMMANDS[name].summary in capsys.readouterr().out


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
