"""One client in several processes, threads and event loops: each has connections of its own, and the right images."""

import asyncio
import copy
import gc
import multiprocessing
import os
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing.queues import SimpleQueue
from typing import Any

import numpy as np
import pytest

from server import Server
from serving.client import Address, AsyncClient, Client, ConfigurationError

FORK, SPAWN = multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")
CHILDREN = 4
IDLE = 8  # connections that the parent has open when it forks

Call = Callable[[Client, int], np.ndarray]
CALLS: dict[str, Call] = {  # each by a number below 10; none can be told from another by the addresses in its reply
    "labels": lambda client, i: client.sample("tiny-cgan", n=2, seed=7, labels=i).array,
    "truncation": lambda client, i: client.sample("tiny-style", n=2, seed=7, truncation=i / 10).array,
    "interpolate": lambda client, i: client.interpolate("tiny-dcgan", keyframes=[i, i + 1], frames=2).array,
    "style_mix": lambda client, i: client.style_mix("tiny-style", rows=[i], columns=[1, 2]).array,
    "digits": lambda client, i: client.digits(f"{i}{i}", seed=7).array,
}


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """One with idle connections, as threads leave them."""
    with Client(server.url, timeout=20) as client:
        barrier = threading.Barrier(IDLE)

        def call(_: int) -> None:
            barrier.wait()
            client.sample("tiny-dcgan", n=256, seed=7)

        with ThreadPoolExecutor(IDLE) as threads:
            list(threads.map(call, range(IDLE)))
        yield client


def in_children(work: Callable[[int], Any], children: int = CHILDREN) -> list[Any]:
    """What `work` returns in forked processes, numbered from 0; what it raises, as text."""
    results: SimpleQueue[Any] = FORK.SimpleQueue()
    start = FORK.Barrier(children)

    def run(number: int) -> None:
        start.wait()
        try:
            results.put(work(number))
        except BaseException as error:
            results.put(f"{type(error).__name__}: {error}")

    processes = [FORK.Process(target=run, args=(number,)) for number in range(children)]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return found


@pytest.mark.parametrize("calls", [60, pytest.param(1200, marks=pytest.mark.slow)])
def test_forked_children_get_their_own_images(client: Client, calls: int):
    right = {(kind, i): call(client, i) for kind, call in CALLS.items() for i in range(10)}

    def work(number: int) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        for k in range(calls):
            kind, i = list(CALLS)[(k + number) % len(CALLS)], (7 * k + 3 * number) % 10
            try:
                outcomes["right" if np.array_equal(CALLS[kind](client, i), right[kind, i]) else "wrong"] += 1
            except Exception as error:
                outcomes[type(error).__name__] += 1
        return outcomes

    assert in_children(work) == [Counter(right=calls)] * CHILDREN
    assert np.array_equal(CALLS["labels"](client, 3), right["labels", 3]), "the parent's connections are whole"


def test_threads_of_a_forked_child_share_its_connections(client: Client):
    right = client.sample("tiny-dcgan", n=4, seed=7).array

    def work(number: int) -> bool:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda _: client.sample("tiny-dcgan", n=4, seed=7).array, range(40)))
        return all(np.array_equal(array, right) for array in found)

    stop = threading.Event()

    def busy() -> None:  # the parent's locks are held when it forks
        while not stop.is_set():
            client.sample("tiny-dcgan", n=4, seed=8)

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert in_children(work) == [True] * CHILDREN
    stop.set()
    for thread in threads:
        thread.join()


def test_a_child_that_closes_a_client_closes_its_own(client: Client):
    def work(number: int) -> int:
        with client:
            return len(client.sample("tiny-dcgan", n=2, seed=7))

    assert in_children(work, 2) == [2, 2]
    assert len(client.sample("tiny-dcgan", n=2, seed=7)) == 2


def test_a_grandchild_has_connections_of_its_own(client: Client):
    def work(number: int) -> list[int]:
        return [len(client.models()), *in_children(lambda _: len(client.models()), 2)]

    assert in_children(work, 2) == [[3, 3, 3]] * 2


def test_a_stream_goes_on_in_a_forked_child_and_its_parent(client: Client):
    """The pages that were under way are requested again: the threads that fetch them stayed with the parent."""
    pictures = iter(client.stream("tiny-dcgan", n=200, seed=7, page=16, in_flight=3))
    first = [next(pictures).index for _ in range(20)]

    def work(number: int) -> list[int]:
        return [picture.index or 0 for picture in pictures]

    assert in_children(work, 2) == [list(range(20, 200))] * 2
    assert first + [picture.index for picture in pictures] == list(range(200))


def test_a_stream_that_a_child_inherits_does_not_block_it(client: Client):
    pages = client.stream("tiny-dcgan", n=10**6, seed=7).pages()
    next(pages)

    def work(number: int) -> int:
        pages.close()
        return number

    assert sorted(in_children(work, 2)) == [0, 1]
    pages.close()


@pytest.mark.parametrize("copied", [lambda value: pickle.loads(pickle.dumps(value)), copy.deepcopy])
def test_a_client_its_methods_and_streams_copy_as_settings(server: Server, copied: Callable[[Any], Any]):
    with Client(server.url, api_key="key", timeout=7, retries=5) as client:
        right = client.sample("tiny-dcgan", n=2, seed=7).array
        with copied(client) as other:
            assert vars(other)["_options"] == vars(client)["_options"] and other.base_url == client.base_url
            assert other._pool.server.api_key == "key" and other._pool is not client._pool
            assert np.array_equal(other.sample("tiny-dcgan", n=2, seed=7).array, right)
        assert np.array_equal(client.sample("tiny-dcgan", n=2, seed=7).array, right), "it was the copy that was closed"
        assert np.array_equal(copied(client.sample)("tiny-dcgan", n=2, seed=7).array, right)
        stream = client.stream("tiny-dcgan", n=9, start=4, page=2)
        assert [p.address for p in copied(stream)] == [Address(stream.seed, 4 + i) for i in range(9)]
        one, with_options = copied((client, client.with_options(retries=0)))
        assert one._pool is with_options._pool, "what shared connections shares them"


@pytest.mark.parametrize("copied", [lambda value: pickle.loads(pickle.dumps(value)), copy.deepcopy])
def test_an_async_client_copies_as_settings(server: Server, copied: Callable[[Any], Any]):
    async def use() -> None:
        async with AsyncClient(server.url) as client:
            right = (await client.sample("tiny-dcgan", n=2, seed=7)).array
            other, sample, stream = copied(
                (client, client.sample, client.stream("tiny-dcgan", n=5, start=4, seed=7, page=2))
            )
            assert np.array_equal((await other.sample("tiny-dcgan", n=2, seed=7)).array, right)
            assert np.array_equal((await sample("tiny-dcgan", n=2, seed=7)).array, right)
            assert [p.index async for p in stream] == [4, 5, 6, 7, 8]
            await other.close()
            assert len(await client.models()) == 3

    asyncio.run(use())


def test_a_pickled_client_reads_the_receivers_environment(server: Server, monkeypatch: pytest.MonkeyPatch):
    """The proxies of a machine, not of the one that sent it."""
    data = pickle.dumps(Client("http://example.org"))
    monkeypatch.setenv("HTTP_PROXY", "ftp://proxy")
    with pytest.raises(ConfigurationError, match="`HTTP_PROXY`"):
        pickle.loads(data)


def test_workers_that_are_spawned_take_a_client(client: Client):
    """As joblib, Ray and a DataLoader's workers do."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        found = pool.submit(client.sample, "tiny-dcgan", n=2, seed=7).result()
    assert np.array_equal(found.array, client.sample("tiny-dcgan", n=2, seed=7).array)


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_the_workers_of_a_data_loader_take_a_client(client: Client, context: str):
    data = pytest.importorskip("torch.utils.data")
    digits = [k * 3 % 10 for k in range(40)]
    loader = data.DataLoader(
        digits, 8, num_workers=2, collate_fn=partial(client.digits, seed=7), multiprocessing_context=context
    )
    for batch, first in zip(loader, range(0, 40, 8), strict=True):
        right = client.digits(digits[first : first + 8], seed=7)
        assert batch.labels == digits[first : first + 8] and np.array_equal(batch.array, right.array)


@pytest.fixture
def left_open() -> Iterator[None]:
    """Collects the connections of loops that ended before their client did, of which asyncio warns."""
    yield
    gc.collect()


LEFT_OPEN = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@LEFT_OPEN
def test_a_second_event_loop_has_connections_of_its_own(server: Server, left_open: None):
    client = AsyncClient(server.url)
    stream = client.stream("tiny-dcgan", n=5, seed=7, page=2)

    async def use() -> list[int | None]:
        assert len(await client.models()) == 3
        return [picture.index async for picture in stream]

    for _ in range(4):
        assert asyncio.run(use()) == list(range(5))
    assert len(client._pool._clients) == 1, "those of closed loops are dropped"
    with ThreadPoolExecutor(3) as threads:  # loops that run at the same time
        assert list(threads.map(lambda _: asyncio.run(use()), range(9))) == [list(range(5))] * 9


@LEFT_OPEN
def test_loops_that_take_turns_keep_their_connections(server: Server, left_open: None):
    """As a notebook's loop and a test's: one call in each, again and again."""
    client = AsyncClient(server.url)
    with asyncio.Runner() as one, asyncio.Runner() as other:
        for _ in range(3):
            for runner in (one, other):
                assert len(runner.run(client.models())) == 3
        assert len(client._pool._clients) == 2
        one.run(client.close())
        for runner in (one, other):
            with pytest.raises(RuntimeError, match="closed"):
                runner.run(client.models())


@LEFT_OPEN
def test_an_async_client_works_in_forked_children(server: Server, left_open: None):
    client = AsyncClient(server.url)
    right = asyncio.run(client.sample("tiny-cgan", n=2, seed=7, labels=3)).array

    def work(number: int) -> bool:
        found = [asyncio.run(client.sample("tiny-cgan", n=2, seed=7, labels=3)).array for _ in range(5)]
        return all(np.array_equal(array, right) for array in found)

    assert in_children(work) == [True] * CHILDREN


@LEFT_OPEN
def test_loops_leave_no_connection_behind(server: Server, left_open: None):
    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    client = AsyncClient(server.url)
    asyncio.run(client.models())
    before = descriptors()
    for _ in range(5):
        asyncio.run(client.models())
    assert descriptors() <= before
