"""What reelmill fetches once and keeps: one directory a user, and packages fetched for the data inside them.

Only set-up downloads. Everything else reads the cache, so a cluster's nodes need no network.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from reelmill.errors import RequestError

_DOWNLOAD_SECONDS = 600


def cache_directory() -> Path:
    """$REELMILL_CACHE, else ~/.cache/reelmill. It need not exist yet."""
    return (
        Path(os.environ.get("REELMILL_CACHE") or Path.home() / ".cache" / "reelmill").expanduser().absolute()
    )


def download_package(
    requirement: str, directory: Path, options: tuple[str, ...] = (), build_with: tuple[str, ...] = ()
) -> Path:
    """Download one package (``name==version``) with pip into ``directory``, which is empty; install nothing.

    ``build_with`` names what a source package needs so that pip can read its metadata; it is put beside
    ``directory``, not into the environment. Returns the archive, a wheel or a source package. Raises
    RequestError with pip's own last words.
    """
    environment = dict(os.environ)
    if build_with:
        tools = directory.with_name(f"{directory.name}-build")
        _pip(requirement, ("install", "--target", str(tools), *build_with))
        environment["PYTHONPATH"] = str(tools)
    _pip(requirement, ("download", "--no-deps", *options, "--dest", str(directory), requirement), environment)
    archives = sorted(directory.iterdir())
    if len(archives) != 1:
        raise RequestError(f"{requirement}: expected one archive in {directory}, found {len(archives)}")
    return archives[0]


def _pip(requirement: str, arguments: tuple[str, ...], environment: dict[str, str] | None = None) -> None:
    command = [
        sys.executable, "-m", "pip", *arguments,
        "--quiet", "--no-input", "--disable-pip-version-check", "--retries", "2", "--timeout", "20",
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_DOWNLOAD_SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        raise RequestError(
            f"{requirement}: not downloaded within {_DOWNLOAD_SECONDS} seconds\n{_without_network()}"
        ) from None
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip().splitlines()
        reason = words[-1] if words else f"exit code {error.returncode}"
        raise RequestError(
            f"{requirement}: pip could not download it: {reason}\n{_without_network()}"
        ) from None


def _without_network() -> str:
    return (
        f"without a network: copy {cache_directory()} from a machine that has run set-up, "
        "or set REELMILL_CACHE to such a directory"
    )
