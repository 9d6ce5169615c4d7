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
