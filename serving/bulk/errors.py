"""What ends a run; the message says what is wrong and what would be right."""


class BulkError(Exception):
    """A run that cannot begin or go on. What is written stays, and the same command goes on from there."""
