"""So many requests at a time, and whoever is refused is told when there is room."""

import pytest

from serving.api.access import admission as module
from serving.api.access.admission import Admission
from serving.api.http.problems import Problem


def test_one_more_than_there_is_room_for_is_refused_until_one_leaves():
    admission = Admission(most=2)
    admission.enter()
    admission.enter()
    with pytest.raises(Problem) as refused:
        admission.enter()
    assert (refused.value.status, refused.value.code) == (503, "overloaded")
    admission.leave()
    admission.enter()


def test_who_is_refused_is_told_how_long_those_before_will_take(monkeypatch: pytest.MonkeyPatch):
    """Ten at a time, each of which takes half a second: after 5 s there is room for ten more."""
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    admission = Admission(most=10)
    for _ in range(10):
        admission.enter()
    for _ in range(200):
        now += 0.5
        admission.leave()
        admission.enter()
    with pytest.raises(Problem) as refused:
        admission.enter()
    assert refused.value.headers["Retry-After"] == "5"


def test_time_in_which_nobody_asks_is_not_taken_for_slowness(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    admission = Admission(most=1)
    for _ in range(100):
        admission.enter()
        now += 0.01
        admission.leave()
        now += 60
    admission.enter()
    with pytest.raises(Problem) as refused:
        admission.enter()
    assert refused.value.headers["Retry-After"] == "1"
