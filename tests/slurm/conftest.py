"""A real Slurm for these tests: the dev cluster, and a recipe small enough for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from devcluster import DevCluster, brought_up, why_not
from recipes import write_recipe


@pytest.fixture(scope="session")
def slurm_of_our_own() -> None:
    """Skips a test where none can be brought up, unless REQUIRE_SLURM=1 says that it can."""
    reason = why_not()
    if reason:
        if os.environ.get("REQUIRE_SLURM") == "1":
            pytest.fail(f"REQUIRE_SLURM=1, but {reason}")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster(slurm_of_our_own: None) -> Iterator[DevCluster]:
    with brought_up(MAX_ARRAY="5") as cluster:  # so that six tasks are two arrays
        os.environ["OMP_NUM_THREADS"] = "1"
        yield cluster


@pytest.fixture(scope="module")
def recipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of seconds, with the sections that the test's module has in RECIPE."""
    return write_recipe(tmp_path_factory.mktemp("recipe"), **getattr(request.module, "RECIPE", {}))
