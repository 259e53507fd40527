"""Whether what failed is tried again, and after how long: no I/O, so both clients decide alike."""

import random

from serving.client.errors import CertificateError, GanymedeError, StatusError, TransportError

RETRIED_STATUSES = frozenset({408, 409, 429})  # and all from 500
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds; it doubles from the one to the other
LONGEST_RETRY_AFTER = 120.0  # of a server that asks for more patience than that, the caller is told at once
PATIENCE = 600.0  # seconds; a call that is older comes back no more, though the server says when


def pause(error: GanymedeError, attempt: int) -> float | None:
    """Seconds to wait after `error` in `attempt` (0 the first); None where trying again is of no use.

    Any request may be sent again, POST as well: an address always means the same image, so a reply that was lost is
    made again as it was. Up to half of a pause is left to chance, and so is what follows a `Retry-After`, or clients
    that failed together would come back together.
    """
    if not may_pass(error):
        return None
    told = told_to_wait(error)
    if told == 0:
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1)
    return told + random.uniform(0, FIRST_PAUSE) if told <= LONGEST_RETRY_AFTER else None


def may_pass(error: GanymedeError) -> bool:
    if isinstance(error, StatusError):
        return error.status in RETRIED_STATUSES or error.status >= 500
    return isinstance(error, TransportError) and not isinstance(error, CertificateError)


def told_to_wait(error: GanymedeError) -> float:
    """Seconds, where the server refused and said when to come back: then nothing has failed. Else 0."""
    return error.retry_after or 0.0 if isinstance(error, StatusError) else 0.0
