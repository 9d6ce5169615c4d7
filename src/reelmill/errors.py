"""The two ways a request can go wrong. Only the command line turns them into exit codes."""


class RequestError(Exception):
    """The request itself is wrong (bad config, missing file, unknown name): exit code 2.

    The message is one or two lines for a person: the file, the key, the value seen and what would be right.
    ``said``: another process of the same training says it.
    """

    said = False


class IncompleteError(Exception):
    """The request was right, but the work is not complete or not intact: exit code 1.

    ``said``: another process of the same training says it.
    """

    said = False


class CancelledError(IncompleteError):
    """Somebody has cancelled the work, or a part that it waited for; it is not begun again by itself."""


class DamagedError(IncompleteError):
    """A file is missing, truncated or altered; the message names it."""
