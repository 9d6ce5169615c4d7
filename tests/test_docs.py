"""README.md and docs/ name only what there is: files, headings, commands, targets of the Makefile."""

import re
from pathlib import Path

import pytest

from reelmill.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
REPOSITORY_PATH = re.compile(r"(?<![\w/.*-])(?:configs|docs|jobs|slurm|src|tests)/[\w./*-]*\w")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`|^    (.+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names that a page's headings have on GitHub."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    for path in REPOSITORY_PATH.findall(page.read_text(encoding="utf-8")):
        assert any(ROOT.glob(path)), f"{page.name}: {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for code in (inline or line for inline, line in CODE.findall(page.read_text(encoding="utf-8"))):
        for target in re.findall(r"\bmake ([a-z][a-z-]*)", code):
            assert target in targets, f"{page.name}: make {target}"
        for words in re.findall(r"(?:^|/|&& |-m )reelmill ([a-z]+(?: [a-z]+\b(?![/.=]))?)", code):
            assert {words, words.split()[0]} & COMMANDS.keys(), f"{page.name}: reelmill {words}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
