"""The rate limit: images per second for each client, whatever the size of its requests."""

import pytest

from serving.api.access import rate_limit as module
from serving.api.access.rate_limit import RateLimit
from serving.api.http.problems import Problem


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def rejected(limit: RateLimit, client: str, images: int = 1) -> int | None:
    """Charge a client; return `Retry-After`, or None where it is accepted."""
    try:
        limit.charge(client, images)
    except Problem as problem:
        assert (problem.status, problem.code) == (429, "rate-limited")
        return int(problem.headers["Retry-After"])
    return None


def test_one_seconds_worth_is_saved_up_and_no_more(clock: Clock):
    limit = RateLimit(5, clock)
    for _ in range(2):  # before its first request, and between two
        clock.now += 3600
        assert [rejected(limit, "a") for _ in range(7)] == [None] * 5 + [1, 1]
    assert rejected(limit, "b") is None, "another client has its own"


def test_retry_after_is_when_the_next_request_is_accepted(clock: Clock):
    limit = RateLimit(10, clock)
    assert rejected(limit, "a", 65) is None
    seconds = rejected(limit, "a")
    assert seconds == 6  # 55 overdrawn at 10 a second
    clock.now += seconds - 1
    assert rejected(limit, "a") == 1
    clock.now += 1
    assert rejected(limit, "a") is None


def test_a_rejected_request_is_not_charged(clock: Clock):
    limit = RateLimit(10, clock)
    assert rejected(limit, "a", 20) is None
    assert [rejected(limit, "a", 256) for _ in range(5)] == [2] * 5


def test_over_time_a_client_gets_its_rate_at_any_size(clock: Clock):
    limit, images = RateLimit(10, clock), 0
    for _ in range(10_000):
        clock.now += 0.1
        if rejected(limit, "a", 256) is None:
            images += 256
    assert 10_000 <= images <= 10_000 + 256 + 10


def test_of_requests_that_come_at_once_one_may_overdraw(clock: Clock):
    limit = RateLimit(10, clock)
    assert [rejected(limit, client, 64) for client in "aaab"] == [None, 6, 6, None]


@pytest.mark.parametrize("together", range(1, 11))
def test_requests_that_fit_together_are_accepted_together(together: int, clock: Clock):
    limit = RateLimit(10, clock)
    assert [rejected(limit, "a", 10 // together) for _ in range(together)] == [None] * together


def test_an_ipv6_network_is_one_client_an_ipv4_network_is_not(clock: Clock):
    limit = RateLimit(1, clock)
    assert rejected(limit, "2001:db8:1:2::1") is None
    assert rejected(limit, "2001:db8:1:2:ffff::9") == 1
    assert rejected(limit, "2001:db8:1:3::1") is None
    assert [rejected(limit, f"10.0.0.{i}") for i in range(3)] == [None] * 3
    assert [rejected(limit, f"::ffff:10.0.0.{i}") for i in range(2, 4)] == [1, None], "IPv4, as IPv6 writes it"
    assert rejected(limit, "a key: with a colon") is None


def test_a_flood_of_clients_takes_bounded_memory(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_CLIENTS", 100)
    limit = RateLimit(1, clock)
    for i in range(1000):
        rejected(limit, f"10.0.{i // 256}.{i % 256}")
    assert len(limit._balances) == 100
