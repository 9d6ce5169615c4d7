"""Imports run one way: no circle in the package, and within ``songs`` only down, from results to store."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import reelmill

ROOT = Path(reelmill.__file__).parent
SONGS = "reelmill.songs"
LAYERS = ("store", "make", "check", "results")
"""Folders of ``songs``, each of which may import from itself and from those before it."""


def name_of(path: Path) -> str:
    """The module that a file of the package is."""
    parts = ("reelmill", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def trees() -> dict[str, ast.Module]:
    """The syntax of every module of the package."""
    return {name_of(path): ast.parse(path.read_bytes()) for path in sorted(ROOT.rglob("*.py"))}


@cache
def is_package(module: str) -> bool:
    return (ROOT.parent.joinpath(*module.split(".")) / "__init__.py").exists()


def targets(module: str, node: ast.AST) -> set[str]:
    """The modules of the package that one statement of ``module`` imports."""
    if isinstance(node, ast.Import):
        named = {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
        origin = node.module or ""
        if node.level:
            package = module.split(".")[: None if is_package(module) else -1]
            package = package[: len(package) - node.level + 1]
            origin = ".".join([*package, *filter(None, [node.module])])
        inside = {f"{origin}.{alias.name}" for alias in node.names}
        # ``from package import module`` is an import of the module, any other of what it is taken from.
        named = (inside & trees().keys()) | ({origin} if inside - trees().keys() else set())
    else:
        return set()
    return named & trees().keys()


def imports(module: str) -> set[str]:
    """What a module imports anywhere in it, in functions and for type checks as well."""
    return {target for node in ast.walk(trees()[module]) for target in targets(module, node)}


def top_level(module: str) -> set[str]:
    """What a module imports while it is imported itself."""

    def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
        for node in body:
            yield node
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
                yield from statements(node.orelse)
                continue
            for name in ("body", "orelse", "finalbody", "handlers", "cases"):
                for inner in getattr(node, name, []):
                    yield from statements([inner] if isinstance(inner, ast.stmt) else inner.body)

    return {target for node in statements(trees()[module].body) for target in targets(module, node)}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in turn, the first of them again at the end; empty if there are none."""
    finished: set[str] = set()

    def follow(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module not in finished:
            for target in sorted(graph[module]):
                if found := follow(target, [*way, module]):
                    return found
            finished.add(module)
        return []

    return next((found for module in graph if (found := follow(module, []))), [])


def layer(module: str) -> int | None:
    """Which of the folders of ``songs`` a module lies in; None if in none."""
    folder = module.removeprefix(f"{SONGS}.").partition(".")[0] if module.startswith(f"{SONGS}.") else ""
    return LAYERS.index(folder) if folder in LAYERS else None


def test_songs_import_only_down() -> None:
    up = {
        (module.removeprefix(f"{SONGS}."), target.removeprefix(f"{SONGS}."))
        for module in trees()
        for target in imports(module)
        if (of := layer(module)) is not None and (to := layer(target)) is not None and to > of
    }
    assert not up, "these imports run up: move what they need down"


def test_the_settings_of_songs_import_from_none_of_the_folders() -> None:
    outside = [module for module in trees() if module.startswith(SONGS) and layer(module) is None]
    assert outside == [SONGS, f"{SONGS}.settings"]
    assert not [target for module in outside for target in imports(module) if layer(target) is not None]


def test_no_import_circle() -> None:
    graph = {module: top_level(module) for module in trees()}
    assert len(graph) > 100 and any(graph.values())
    assert not circle(graph)


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert circle({"a": {"a"}}) == ["a", "a"]
    assert not circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})


def test_every_way_to_import_counts() -> None:
    def of(code: str, module: str = f"{SONGS}.make.worker") -> set[str]:
        return targets(module, ast.parse(code).body[0])

    assert of(f"import {SONGS}.store.plan as p, os") == {f"{SONGS}.store.plan"}
    assert of(f"from {SONGS}.store.plan import Plan") == {f"{SONGS}.store.plan"}
    assert of(f"from {SONGS}.store import plan, tar") == {f"{SONGS}.store.plan", f"{SONGS}.store.tar"}
    assert of("from . import worker") == {f"{SONGS}.make.worker"}
    assert of("from ..store.plan import Plan") == {f"{SONGS}.store.plan"}
    assert of("from .worker import Worker", f"{SONGS}.make") == {f"{SONGS}.make.worker"}
    assert of("from os import path") == set()
