"""How many requests a process works at. More would not be done sooner, and every one of them would take longer.

Under more load than there is time for, what is taken in waits on the event loop, where each further request slows all
others: replies come too late for anyone, and refusals with them. So what would only wait is refused before it costs.
"""

import time

from serving.api.http.problems import Problem, overloaded
from serving.api.served_models import retry_after

MAX_REQUESTS = 256  # at 500 requests a second, the slowest that was measured, each is answered within about 0.5 s
SMOOTHING = 0.05  # the weight of the newest reply in the measured speed


class Admission:
    """The requests that have come whole and whose reply has not begun; not those that wait for a slow client."""

    def __init__(self, most: int = MAX_REQUESTS):
        self._most = most
        self._requests = 0
        self._left = 0.0  # when one last left others behind
        self._seconds_per_request = 0.002  # until it is measured

    @property
    def full(self) -> bool:
        return self._requests >= self._most

    def refusal(self) -> Problem:
        """503, for whoever finds it full."""
        return overloaded(retry_after(self._requests * self._seconds_per_request))

    def enter(self) -> None:
        """Raises Problem 503 where there is no room."""
        if self.full:
            raise self.refusal()
        if not self._requests:
            self._left = time.monotonic()
        self._requests += 1

    def leave(self) -> None:
        now = time.monotonic()
        self._requests -= 1
        self._seconds_per_request += SMOOTHING * (now - self._left - self._seconds_per_request)
        self._left = now
