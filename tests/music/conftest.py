"""Real tunes for these tests, split as every run splits them."""

import datasets
import pytest

import reelmill
from reelmill.errors import RequestError


@pytest.fixture(scope="session")
def irish() -> datasets.DatasetDict:
    try:
        return reelmill.load_corpus("irish")
    except RequestError as error:
        pytest.skip(f"needs a network once: {error}")
