"""Errors that end a run. The message has the cause and the remedy."""

import errno
import os

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class BulkError(Exception):
    """A run cannot start or continue. Complete shards are kept, and the same command resumes the run."""


def unwritable(url: str, error: OSError) -> BulkError:
    """Return the error for a directory that cannot be written."""
    reason = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    remedy = "free some space, then" if error.errno in FULL else "fix the cause, then"
    return BulkError(f"{url} cannot be written: {reason}; {remedy} run the same command to resume.")
