"""Exit codes of what a person submits: 0 done, 1 not complete, 2 the request is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable

from reelmill.errors import IncompleteError, RequestError


def exit_code(work: Callable[[], None]) -> int:
    """Do ``work``; its errors are said on standard error in their own words."""
    try:
        work()
    except RequestError as error:
        print(error, file=sys.stderr)
        return 2
    except IncompleteError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
