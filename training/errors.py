"""The errors of this package: what a user can put right, said in one line.

TrainingError
+- RecipeError        a recipe that cannot be
+- DataError          data that cannot be used
+- TrainingDiverged   a loss is no longer a number
+- ExportError        an exported model failed a check; nothing was written
+- CheckpointError    a checkpoint of elsewhere that cannot be imported; nothing was written
"""


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
