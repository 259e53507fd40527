"""How many requests a process works at. More would not be done sooner, and every one of them would take longer.

Under more load than there is time for, what is taken in waits on the event loop, where each further request slows all
others: replies come too late for anyone, and refusals with them. So what would only wait is refused before it costs.
"""

import time

from serving.api.generators import retry_after
from serving.api.problems import Problem, overloaded

ANSWERED_SECONDS = 0.4  # in which all that are worked at should be answered ...
LEAST, MOST = 32, 256  # ... but few large requests leave room for small ones, and more than 256 slow each other down
WINDOW_SECONDS = 0.25  # over which the speed is measured: replies come in bursts, a micro-batch's together
SMOOTHING = 0.5  # the weight of the newest window in it


class Admission:
    """The requests that have come whole and whose reply has not begun; not those that wait for a slow client."""

    def __init__(self, least: int = LEAST, most: int = MOST):
        self._least, self._most = least, most
        self._requests = 0
        self._since = 0.0  # the beginning of the window ...
        self._answered = 0  # ... and how many were answered in it
        self._seconds_per_request = 0.002  # until it is measured

    @property
    def full(self) -> bool:
        return self._requests >= self._least and (
            self._requests >= self._most or self._requests * self._seconds_per_request >= ANSWERED_SECONDS
        )

    def refusal(self) -> Problem:
        """503, for whoever finds it full."""
        return overloaded(retry_after(self._requests * self._seconds_per_request))

    def enter(self) -> None:
        """Raises Problem 503 where there is no room."""
        if self.full:
            raise self.refusal()
        if not self._requests:
            self._begin_window()  # while nobody asked, nobody was slow
        self._requests += 1

    def leave(self, *, answered: bool) -> None:
        """A request's reply begins, or there will be none. How soon others were refused says nothing of the speed."""
        self._requests -= 1
        if not answered:
            return
        self._answered += 1
        elapsed = time.monotonic() - self._since
        if elapsed >= WINDOW_SECONDS:
            self._seconds_per_request += SMOOTHING * (elapsed / self._answered - self._seconds_per_request)
            self._begin_window()

    def _begin_window(self) -> None:
        self._since, self._answered = time.monotonic(), 0
