"""A client gets its images a second, whatever the size of its requests, and no other client's."""

import pytest

from serving.api.access import rate_limit as module
from serving.api.access.rate_limit import Quota
from serving.api.http.problems import Problem


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def refused(quota: Quota, client: str) -> int | None:
    """`Retry-After`, or None where it is let in."""
    try:
        quota.check(client)
    except Problem as problem:
        assert (problem.status, problem.code) == (429, "rate-limited")
        return int(problem.headers["Retry-After"])
    return None


def test_a_seconds_worth_is_saved_up_and_no_more(clock: Clock):
    quota = Quota(5, clock)
    clock.now += 3600
    assert [refused(quota, "a") for _ in range(7)] == [None] * 5 + [1, 1]
    assert refused(quota, "b") is None, "another client has its own"


def test_retry_after_is_when_it_is_let_in_again(clock: Clock):
    quota = Quota(10, clock)
    assert refused(quota, "a") is None
    quota.charge("a", 64)
    seconds = refused(quota, "a")
    assert seconds == 6  # 54 overdrawn at 10 a second
    clock.now += seconds - 1
    assert refused(quota, "a") == 1
    clock.now += 1
    assert refused(quota, "a") is None


def test_over_time_a_client_gets_its_rate_however_large_its_requests(clock: Clock):
    quota, images = Quota(10, clock), 0
    for _ in range(10_000):
        clock.now += 0.1
        if refused(quota, "a") is None:
            quota.charge("a", 256)
            images += 256
    assert 10_000 <= images <= 10_000 + 256 + 10


def test_of_requests_that_come_at_once_one_may_overdraw(clock: Clock):
    quota = Quota(10, clock)
    assert [refused(quota, client) for client in "aaab"] == [None] * 4
    quota.charge("a", 64)
    for _ in range(2):
        with pytest.raises(Problem) as found:
            quota.charge("a", 64)
        assert (found.value.code, found.value.headers["Retry-After"]) == ("rate-limited", "6")
    quota.charge("b", 64)


@pytest.mark.parametrize("together", range(1, 11))
def test_what_was_let_in_with_enough_for_all_is_drawn(together: int, clock: Clock):
    quota = Quota(10, clock)
    assert [refused(quota, "a") for _ in range(together)] == [None] * together
    for _ in range(together):
        quota.charge("a", 10 // together)


def test_the_addresses_of_an_ipv6_network_are_one_client_and_those_of_ipv4_are_not(clock: Clock):
    quota = Quota(1, clock)
    assert refused(quota, "2001:db8:1:2::1") is None
    assert refused(quota, "2001:db8:1:2:ffff::9") == 1
    assert refused(quota, "2001:db8:1:3::1") is None
    assert [refused(quota, f"10.0.0.{i}") for i in range(3)] == [None] * 3
    assert [refused(quota, f"::ffff:10.0.0.{i}") for i in range(2, 4)] == [1, None], "IPv4, as IPv6 writes it"
    assert refused(quota, "a key: with a colon") is None


def test_a_flood_of_clients_takes_bounded_memory(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_CLIENTS", 100)
    quota = Quota(1, clock)
    for i in range(1000):
        refused(quota, f"10.0.{i // 256}.{i % 256}")
    assert len(quota._balances) == 100
