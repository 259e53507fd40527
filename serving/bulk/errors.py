"""What ends a run; the message says what is wrong and what would be right."""

import errno
import os

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class BulkError(Exception):
    """A run that cannot begin or go on. What is written stays, and the same command goes on from there."""


def unwritable(url: str, error: OSError) -> BulkError:
    """For a directory that refuses what is written to it."""
    reason = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    remedy = "make room, and" if error.errno in FULL else "mend that, and"
    return BulkError(f"{url} cannot be written: {reason}; {remedy} run the same command to go on.")
