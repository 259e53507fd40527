"""Whether what failed is tried again, and after how long: no I/O, so both clients decide alike."""

import random

from serving.client.errors import GanymedeError, StatusError, TransportError

RETRIED_STATUSES = frozenset({408, 409, 429})  # and all from 500
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds; it doubles from the one to the other
LONGEST_RETRY_AFTER = 120.0  # of a server that asks for more patience than that, the caller is told at once


def pause(error: GanymedeError, attempt: int) -> float | None:
    """Seconds to wait after `error` in `attempt` (0 the first); None where trying again is of no use.

    Any request may be sent again, POST as well: an address always means the same picture, so a reply that was lost is
    made again as it was. Up to half of a pause is left to chance, or clients that failed together would come back
    together.
    """
    wait = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1)
    if isinstance(error, TransportError):
        return wait
    if not isinstance(error, StatusError) or not (error.status in RETRIED_STATUSES or error.status >= 500):
        return None
    if error.retry_after is None:
        return wait
    return max(wait, error.retry_after) if error.retry_after <= LONGEST_RETRY_AFTER else None
