from __future__ import annotations

import subprocess

import pytest


@pytest.fixture
def can_mount() -> None:
    """Skips a test where this process may not mount anything, not even in a namespace of its own."""
    try:
        subprocess.run(["unshare", "--mount", "true"], capture_output=True, timeout=10, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount (root)")
