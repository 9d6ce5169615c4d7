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


def download_package(requirement: str, directory: Path, options: tuple[str, ...] = ()) -> Path:
    """Download one package (``name==version``) with pip into ``directory``, which is empty; install nothing.

    Returns the archive, a wheel or a source package. Raises RequestError with pip's own last words.
    """
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--quiet",
        "--no-input", *options, "--dest", str(directory), requirement,
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_DOWNLOAD_SECONDS)
    except subprocess.TimeoutExpired:
        raise RequestError(f"{requirement}: not downloaded within {_DOWNLOAD_SECONDS} seconds") from None
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip().splitlines()
        reason = words[-1] if words else f"exit code {error.returncode}"
        raise RequestError(f"{requirement}: pip could not download it: {reason}") from None
    archives = sorted(directory.iterdir())
    if len(archives) != 1:
        raise RequestError(f"{requirement}: expected one archive in {directory}, found {len(archives)}")
    return archives[0]
