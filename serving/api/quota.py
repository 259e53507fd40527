"""How much each client may ask for: images a second, with a second's worth saved up."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from serving.api.problems import rate_limited

MAX_CLIENTS = 10_000  # remembered; of more, those that asked longest ago are forgotten and start anew


class Quota:
    """A token bucket for each client. A request is let in while the bucket is not empty and may overdraw it, so a large
    one needs no large bucket; what it overdraws must be earned before the next is let in."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic):
        self._rate = rate
        self._clock = clock
        self._balances: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> balance, when it was so

    def check(self, client: str) -> None:
        """Takes one image's worth. Raises Problem 429 from a client that has nothing left."""
        client = _network(client)
        balance = self._balance(client)
        if balance <= 0:
            raise rate_limited(self._rate, math.floor(-balance / self._rate) + 1)
        self._charge(client, balance, 1)

    def charge(self, client: str, images: int) -> None:
        """Takes `images` more."""
        client = _network(client)
        self._charge(client, self._balance(client), images)

    def _balance(self, client: str) -> float:
        most = max(1.0, self._rate)
        balance, then = self._balances.get(client, (most, self._clock()))
        return min(most, balance + (self._clock() - then) * self._rate)

    def _charge(self, client: str, balance: float, images: int) -> None:
        self._balances[client] = (balance - images, self._clock())
        self._balances.move_to_end(client)
        if len(self._balances) > MAX_CLIENTS:
            self._balances.popitem(last=False)


def _network(client: str) -> str:
    """An IPv6 client has 2**64 addresses of its own: its network stands for it. One of IPv4 may be written as IPv6."""
    if ":" not in client:
        return client
    try:
        address = ipaddress.IPv6Address(client)
    except ValueError:  # the name of a key
        return client
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))
