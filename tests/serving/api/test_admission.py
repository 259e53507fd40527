"""So many requests at a time, and whoever is refused is told when there is room."""

import pytest

from serving.api import admission as module
from serving.api.admission import Admission
from serving.api.problems import Problem


def test_one_more_than_there_is_room_for_is_refused_until_one_leaves():
    admission = Admission(least=2, most=2)
    admission.enter()
    admission.enter()
    with pytest.raises(Problem) as refused:
        admission.enter()
    assert (refused.value.status, refused.value.code) == (503, "overloaded")
    admission.leave(answered=True)
    admission.enter()


def test_who_is_refused_is_told_how_long_those_before_will_take(monkeypatch: pytest.MonkeyPatch):
    """Ten at a time, each of which takes half a second: after 5 s there is room for ten more."""
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    admission = Admission(least=10, most=10)
    for _ in range(10):
        admission.enter()
    for _ in range(200):
        now += 0.5
        admission.leave(answered=True)
        admission.enter()
    with pytest.raises(Problem) as refused:
        admission.enter()
    assert refused.value.headers["Retry-After"] == "5"


def test_there_is_room_for_as_many_as_are_soon_answered(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    found = {}
    for seconds in (0.0001, 0.0041, 0.1):
        admission = Admission(least=10, most=1000)
        for _ in range(10):
            admission.enter()
        for _ in range(10_000):  # each is answered `seconds` after the one before
            now += seconds
            admission.leave(answered=True)
            admission.enter()
        while not admission.full:
            admission.enter()
            found[seconds] = found.get(seconds, 10) + 1
    assert found == {0.0001: 1000, 0.0041: 98}, "and no fewer than ten of those that take 0.1 s"


def test_who_is_refused_later_says_nothing_of_the_speed(monkeypatch: pytest.MonkeyPatch):
    """Or a queue that is full would make it take in more and more, only to refuse them."""
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    admission = Admission(least=4, most=1000)
    for _ in range(4):
        admission.enter()
    for _ in range(400):
        now += 0.2
        admission.leave(answered=True)
        admission.enter()
        for _ in range(50):
            admission.leave(answered=False)
            admission.enter()
    with pytest.raises(Problem) as refused:
        admission.enter()
    assert refused.value.headers["Retry-After"] == "1"


def test_time_in_which_nobody_asks_is_not_taken_for_slowness(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    admission = Admission(least=1, most=1)
    for _ in range(100):
        admission.enter()
        now += 0.01
        admission.leave(answered=True)
        now += 60
    admission.enter()
    with pytest.raises(Problem) as refused:
        admission.enter()
    assert refused.value.headers["Retry-After"] == "1"
