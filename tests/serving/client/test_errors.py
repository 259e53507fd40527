"""One class a status, each with what a caller needs to act; and when a request is sent again."""

import pickle
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from serving.client import (
    CertificateError,
    ConfigurationError,
    ConnectionError,
    GanymedeError,
    InvalidRequestError,
    RateLimitedError,
    ReplyError,
    ServerError,
    StatusError,
    TimeoutError,
    UnavailableError,
    UnknownHostError,
    errors,
    requests,
)
from serving.client.call import Call
from serving.client.connection import Options
from serving.client.errors import BY_STATUS, redirect_error, status_error
from serving.client.retries import pause

PROBLEM = b'{"detail": "No.", "code": "no", "errors": [{"pointer": "/n", "detail": "Wrong."}]}'


def of(status: int, body: bytes = b"", **headers: str) -> StatusError:
    return status_error(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, "sent")


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(sub) for sub in kind.__subclasses__()))


KINDS = sorted(subclasses(GanymedeError) - {GanymedeError}, key=lambda kind: kind.__name__)


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = [line.replace("│", " ").replace("├──", "   ").replace("└──", "   ") for line in errors.__doc__.split("\n")]  # pyright: ignore[reportOptionalMemberAccess]
    path, found = [], {}
    for line in drawn[2 : drawn.index("", 2)]:
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 4
        path[depth:] = [name]
        found[name] = path[depth - 1] if depth else "Exception"
    assert found == {kind.__name__: kind.__mro__[1].__name__ for kind in subclasses(GanymedeError)}


@pytest.mark.parametrize("status", BY_STATUS)
def test_every_status_has_a_class_of_its_own(status: int):
    assert type(of(status)) is BY_STATUS[status]
    assert list(BY_STATUS.values()).count(BY_STATUS[status]) == 1
    assert f"{status}" in (BY_STATUS[status].__doc__ or "")


def test_another_status_has_the_class_of_its_kind():
    assert type(of(500)) is type(of(507)) is ServerError
    assert type(of(302)) is type(of(418)) is StatusError


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_class_says_what_to_do(kind: type[GanymedeError]):
    assert kind.remedy.endswith(".")


def test_an_error_carries_what_the_problem_says():
    error = of(422, PROBLEM, x_request_id="r1")
    assert (str(error), error.status, error.code, error.request_id) == ("No.", 422, "no", "r1")
    assert error.errors == (("/n", "Wrong."),) and error.pointers == ("/n",)
    assert error.__notes__ == [f"What to do: {InvalidRequestError.remedy}", "Request id: r1"]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"errors": 3}', b'{"errors": [3, {}]}', b"\xff", b"null"])
def test_a_reply_that_is_no_problem_document_is_an_error(body: bytes):
    error = of(502, body)
    assert (error.detail, error.code, error.errors, error.request_id) == (
        "The server answered 502.",
        "unknown",
        (),
        "sent",
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: of(422, PROBLEM, x_request_id="r1"),
        lambda: of(503, retry_after="7"),
        lambda: TimeoutError("late", request_id="r2"),
        lambda: ConnectionError("gone", request_id="r3"),
        lambda: ReplyError("odd"),
        lambda: redirect_error(302, "http://a", "/v1/sample", "https://a/v1/sample", "r4"),
    ],
)
def test_errors_cross_from_process_to_process(make: Callable[[], GanymedeError]):
    error = make()
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == str(error) and vars(copy) == vars(error)


def test_pythons_own_names_catch_them():
    import builtins

    assert issubclass(TimeoutError, builtins.TimeoutError) and issubclass(ConnectionError, builtins.ConnectionError)


def test_retry_after_is_seconds_or_a_date():
    assert of(503, retry_after="7").retry_after == 7
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < (of(429, retry_after=later).retry_after or 0) <= 90
    assert of(503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT").retry_after == 0
    assert [of(503, retry_after=text).retry_after for text in ("", "soon", "-1", "1e3", "٣")] == [None] * 5


@pytest.mark.parametrize(
    ("error", "again"),
    [
        *((of(status), True) for status in (408, 409, 429, 500, 502, 503, 504, 599)),
        *((of(status), False) for status in (302, 400, 401, 403, 404, 405, 406, 413, 415, 422, 431)),
        (ConnectionError("gone"), True),
        (TimeoutError("late"), True),
        (ReplyError("odd"), True),
        (UnknownHostError("where"), True),
        (CertificateError("expired"), False),
        (ConfigurationError("typo"), False),
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again_and_nothing_else(error: GanymedeError, again: bool):
    assert (pause(error, 0) is not None) is again


def test_pauses_double_from_half_a_second_to_eight_with_jitter():
    for attempt, most in enumerate([0.5, 1, 2, 4, 8, 8, 8]):
        pauses = [pause(full(None), attempt) or 0 for _ in range(200)]
        assert most / 2 <= min(pauses) < 0.6 * most and 0.9 * most < max(pauses) <= most


def test_retry_after_is_honoured_to_two_minutes_with_jitter():
    for seconds, attempt in ((100, 0), (120, 5)):
        pauses = [pause(full(seconds), attempt) or 0 for _ in range(200)]
        assert seconds <= min(pauses) < seconds + 0.1 and seconds + 0.4 < max(pauses) <= seconds + 0.5
    assert pause(full(121), 0) is None
    assert 0.25 <= (pause(full(0), 0) or 0) <= 0.5, "at once is never"


def full(retry_after: float | None) -> Any:
    return UnavailableError("full", status=503, code="overloaded", retry_after=retry_after)


def test_a_refusal_that_says_when_to_come_back_uses_up_no_retry():
    call = Call(requests.models(), Options(retries=2))
    for error in [ConnectionError("gone"), *[full(7)] * 20, ConnectionError("gone"), full(7)]:
        assert call.pause_after(error) > 0
    for error in (ConnectionError("gone"), full(None), full(0)):
        with pytest.raises(GanymedeError) as caught:
            call.pause_after(error)
        assert caught.value is error


def test_retries_last_ten_minutes_and_none_means_none():
    for call in (
        Call(requests.models(), Options(), began=time.monotonic() - 600),
        Call(requests.models(), Options(60, 0)),
    ):
        with pytest.raises(UnavailableError):
            call.pause_after(full(7))


def test_a_client_over_its_quota_waits_and_gets_its_pictures(serve: Any, connect: Any):
    with serve(GANYMEDE_RATE_LIMIT="20") as server, connect(server.url) as client:
        assert len(client.sample("tiny-dcgan", n=30, seed=7)) == 30  # overdraws: the next must wait
        with pytest.raises(RateLimitedError) as caught:
            client.with_options(retries=0).sample("tiny-dcgan", seed=7)
        assert caught.value.retry_after and caught.value.code == "rate-limited"
        assert len(client.sample("tiny-dcgan", seed=7)) == 1


@pytest.mark.slow
def test_a_stream_keeps_to_the_servers_rate_limit(serve: Any, connect: Any):
    """Pages in flight share the quota: whichever comes first sends the others away once more."""
    with serve(GANYMEDE_RATE_LIMIT="60") as server, connect(server.url) as client:
        began = time.monotonic()
        found = list(client.stream("tiny-dcgan", n=720, seed=7, page=60, in_flight=6))
        assert [picture.index for picture in found] == list(range(720))
        # A second's images are there from the start, and those in flight at the end may all overdraw at once.
        assert time.monotonic() - began > (720 - 60 - 6 * 60) / 60 - 0.5


def test_a_key_opens_its_server_and_shows_nowhere(
    serve: Any, connect: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
):
    import hashlib

    key = "correct-horse"
    (tmp_path / "keys").write_text(f"{hashlib.sha256(key.encode()).hexdigest()} tests\n")
    with serve(GANYMEDE_API_KEYS_FILE=str(tmp_path / "keys")) as server:
        with connect(server.url) as client, pytest.raises(errors.AuthenticationError, match="Authorization"):
            client.models()
        with connect(server.url, api_key=key) as client:
            assert len(client.models()) == 3
            with pytest.raises(GanymedeError) as caught:
                client.sample("none")
            assert key not in repr(client) + repr(caught.value) + str(vars(caught.value))
        monkeypatch.setenv("GANYMEDE_API_KEY", key)
        with connect(server.url) as client:
            assert len(client.models()) == 3
