"""Exit codes of whatever a person starts: 0 done, 1 not complete or not intact, 2 the request is wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from reelmill.errors import IncompleteError, RequestError

DONE, NOT_COMPLETE, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130


def exit_code(work: Callable[[], int | None]) -> int:
    """Do ``work``, which may give an exit code; its errors are said on standard error in their own words."""
    try:
        return work() or DONE
    except (RequestError, IncompleteError) as error:
        if not error.said:
            print(f"reelmill: {error}", file=sys.stderr)
        return WRONG_REQUEST if isinstance(error, RequestError) else NOT_COMPLETE
    except KeyboardInterrupt:
        print("reelmill: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; say nothing more
        return NOT_COMPLETE
