"""Any number of images in pages: in order, none missing, and never more in memory than are in flight."""

import asyncio
import threading
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from server import Server
from serving.client import Address, AsyncClient, Client, InvalidRequestError, ReplyError, requests
from serving.client.pages import Pages


def test_a_stream_is_the_pictures_of_its_range_in_order(client: Any):
    stream = client.stream("tiny-dcgan", n=1000, seed=7, start=5, page=64)
    assert len(stream) == 1000 and stream.seed == 7
    found = list(stream)
    assert [picture.address for picture in found] == [Address(7, 5 + i) for i in range(1000)]
    for first in (0, 128, 999):
        (same,) = client.sample("tiny-dcgan", seed=7, start=5 + first)
        assert np.array_equal(found[first].array, same.array)


def test_pages_are_as_long_as_asked_but_for_the_last(client: Any):
    assert [len(page) for page in client.stream("tiny-dcgan", n=600, seed=7).pages()] == [256, 256, 88]
    assert [len(page) for page in client.stream("tiny-dcgan", n=5, seed=7, page=2, in_flight=9).pages()] == [2, 2, 1]
    assert list(client.stream("tiny-dcgan", n=0, seed=7)) == []


def test_a_stream_without_a_seed_draws_one_for_all_its_pages(client: Any):
    stream = client.stream("tiny-dcgan", n=5, page=2)
    assert {picture.seed for picture in stream} == {stream.seed}


def test_labels_are_cut_with_the_pages(client: Any):
    labels = [i * 7 % 10 for i in range(25)]
    assert [picture.label for picture in client.stream("tiny-cgan", n=25, seed=7, labels=labels, page=4)] == labels
    assert {picture.label for picture in client.stream("tiny-cgan", n=5, seed=7, labels="3", page=2)} == {3}
    assert [p.label for p in client.stream("tiny-cgan", n=3, seed=7, labels=np.array([4, 2, 4]), page=2)] == [4, 2, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": -1}, r"`n` \(=-1\) must be 0 or more"),
        ({"n": 5, "page": 0}, r"`page` \(=0\) must be 1 or more"),
        ({"n": 5, "in_flight": 0}, r"`in_flight` \(=0\) must be 1 or more"),
        ({"n": 5, "labels": [1, 2]}, r"`labels` has 2 entries; it must be one label for all, or 5\."),
    ],
)
def test_a_wrong_option_is_an_error_before_anything_is_sent(client: Any, options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        client.stream("tiny-cgan", seed=7, **options)


def test_an_error_comes_after_the_pages_before_it(client: Any):
    labels = [1] * 4 + [99] + [1] * 4
    pages = client.stream("tiny-cgan", n=9, seed=7, labels=labels, page=2, in_flight=3).pages()
    assert [len(next(pages)), len(next(pages))] == [2, 2]
    with pytest.raises(InvalidRequestError, match=r"`labels\[0\]` \(=99\)"):
        next(pages)


def test_pages_of_different_model_files_are_rejected(client: Any):
    pages = Pages("m", n=2, seed=7, start=0, labels=None, truncation=None, page=1, in_flight=1)
    page = client.sample("tiny-dcgan", seed=7)
    assert pages.check(page) is page
    with pytest.raises(ReplyError, match="has other files"):
        pages.check(client.sample("tiny-style", seed=7))


def test_no_more_requests_are_under_way_or_kept_than_in_flight(server: Server, monkeypatch: pytest.MonkeyPatch):
    """What has been asked for is never more than `in_flight` pages ahead of what was taken."""
    asked, taken, ahead = 0, 0, []
    sample = requests.sample

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        ahead.append(asked - taken)
        return sample(*arguments, **options)

    monkeypatch.setattr(requests, "sample", counted)
    with Client(server.url) as client:
        for _ in client.stream("tiny-dcgan", n=100, seed=7, page=2, in_flight=3).pages():
            taken += 1
    assert taken == asked == 50 and max(ahead) == 4  # three under way, and the page that is about to be given


def test_several_requests_are_in_flight(server: Server):
    async def most_at_once() -> int:
        active = most = 0
        async with AsyncClient(server.url) as client:
            call = client._call

            async def watched(request: Any) -> Any:
                nonlocal active, most
                active += 1
                most = max(most, active)
                try:
                    return await call(request)
                finally:
                    active -= 1

            client._call = watched  # pyright: ignore[reportAttributeAccessIssue]
            async for _ in client.stream("tiny-dcgan", n=20, seed=7, page=2, in_flight=3):
                pass
        return most

    assert asyncio.run(most_at_once()) == 3


def test_who_leaves_early_leaves_no_request_behind(server: Server):
    with Client(server.url) as client:
        for picture in client.stream("tiny-dcgan", n=10**9, seed=7):
            if picture.index == 300:
                break
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("ganymede-stream")]

    async def leave() -> int:
        async with AsyncClient(server.url) as client:
            async with aclosing(client.stream("tiny-dcgan", n=10**9, seed=7).pages()) as pages:
                async for _ in pages:
                    break
            return len(asyncio.all_tasks())

    assert asyncio.run(leave()) == 1
