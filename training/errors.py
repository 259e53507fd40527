"""The errors of this package: what a user can put right, said in one line.

TrainingError
+- RecipeError        a recipe that cannot be
+- DataError          data that cannot be used
+- TrainingDiverged   a loss is no longer a number
+- ExportError        an exported model failed a check; nothing was written
+- CheckpointError    a checkpoint of elsewhere that cannot be imported; nothing was written
"""

import errno
import os
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class TrainingError(Exception):
    """Something that a user can put right; the message says what was wrong and what would be right."""


class RecipeError(TrainingError):
    """Says which field, what was found, and what would be right."""


class DataError(TrainingError):
    """Says which data, and what would be right."""


class TrainingDiverged(TrainingError):
    """Says when, and where it was seen first."""


class ExportError(TrainingError):
    """Says which check failed, and what was found."""


class CheckpointError(TrainingError):
    """Says which file, what was found in it, and what can be imported."""


def refused_by_disk(error: OSError, path: Path | None = None) -> str:
    """Return what the file system refused, and what to do; `path` where the error names none."""
    where = error.filename or path
    reason = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    remedy = {
        errno.EEXIST: "a file is in the place of a folder: give another",
        errno.ENOTDIR: "a file is in the place of a folder: give another",
        errno.ENOENT: "give one that is there",
    }.get(error.errno or 0, "make room" if error.errno in FULL else "give this user permission, or another place")
    return f"{where}: {reason}; {remedy}." if where else f"{reason}; {remedy}."
