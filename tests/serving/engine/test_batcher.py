"""Nothing lost, nothing answered twice: requests are joined, share fairly, are dropped when late, and finish."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any, ClassVar

import numpy as np
import pytest

from serving.engine import batcher as module
from serving.engine import generation
from serving.engine.batcher import Batcher, Closed, DeadlineExceeded, Overloaded, Times
from serving.engine.fair_queue import fair_shares
from serving.engine.latents import address_range, latents
from serving.engine.repository import Model, load_model
from serving.engine.runtime import Runtime

ROOM = 12  # images in each micro-batch of these tests, however long it takes


class Gated(Runtime):
    """A real runtime whose micro-batches wait for a word, are remembered, and can be made to fail."""

    def __init__(self, model: Model, threads: int = 1):
        super().__init__(model, threads=threads)
        self.began, self.go = Event(), Event()
        self.batches: list[int] = []
        self.labels: list[int] = []  # of every image, as they were begun
        self.fail = False

    def compute(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        self.batches.append(len(inputs["label"]))
        self.labels += inputs["label"].tolist()
        self.began.set()
        assert self.go.wait(10)
        if self.fail:
            raise RuntimeError("out of memory")
        return super().compute(inputs)


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MICRO_BATCH_SECONDS", 60)


@pytest.fixture(scope="module")
def model(repository_folder: Path) -> Model:
    return load_model(repository_folder / "tiny-cgan")


@pytest.fixture
def runtime(model: Model) -> Gated:
    return Gated(model)


@asynccontextmanager
async def batcher_of(runtime: Gated, **options: Any) -> AsyncIterator[Batcher]:
    batcher = Batcher(runtime, max_batch=ROOM, **options)
    try:
        yield batcher
    finally:
        runtime.go.set()
        await asyncio.wait_for(batcher.close(), 10)
        assert batcher.images == 0


def rows(runtime: Runtime, n: int, start: int = 0) -> dict[str, np.ndarray]:
    return generation.sample(runtime, n=n, seed=7, start=start).inputs


async def waiting(batcher: Batcher, runtime: Gated, *requests: dict[str, np.ndarray]) -> list[asyncio.Task[np.ndarray]]:
    """Requests that wait in this order, while a first one of one image is under way; that one's task comes first."""
    tasks = [asyncio.create_task(batcher.run(rows(runtime, 1, start=999)))]
    assert await asyncio.to_thread(runtime.began.wait, 10)
    tasks += [asyncio.create_task(batcher.run(request)) for request in requests]
    await asyncio.sleep(0.01)
    return tasks


def test_every_request_gets_its_own_images_however_joined(model: Model):
    runtime = Runtime(model)
    expected = runtime.synthesize(rows(runtime, 400))

    async def one(batcher: Batcher, i: int) -> None:
        start, n = i * 37 % 300, 1 + i * i % 100
        images = await batcher.run(rows(runtime, n, start))
        np.testing.assert_array_equal(images, expected[start : start + n])

    async def scenario() -> None:
        batcher = Batcher(runtime, max_queue=10_000)
        await asyncio.gather(*(one(batcher, i) for i in range(60)))
        assert batcher.images == 0
        await batcher.close()

    asyncio.run(scenario())


def test_an_idle_model_starts_at_once_and_joins_what_comes(runtime: Gated):
    async def scenario() -> None:
        async with batcher_of(runtime) as batcher:
            tasks = await waiting(batcher, runtime, *(rows(runtime, 1, start=i) for i in range(5)))
            runtime.go.set()
            await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert runtime.batches == [1, 5]


def test_images_are_counted_and_not_requests(runtime: Gated):
    async def scenario() -> None:
        async with batcher_of(runtime) as batcher:
            tasks = await waiting(batcher, runtime, rows(runtime, 30))
            runtime.go.set()
            await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert runtime.batches == [1, 12, 12, 6]


def test_a_small_request_is_not_stuck_behind_a_large_one(runtime: Gated):
    done: list[str] = []

    async def scenario() -> None:
        async with batcher_of(runtime) as batcher:
            tasks = await waiting(batcher, runtime, rows(runtime, 256), rows(runtime, 2), rows(runtime, 1))
            for task, name in zip(tasks, ("first", "large", "two", "one"), strict=True):
                task.add_done_callback(lambda _, name=name: done.append(name))
            runtime.go.set()
            await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert done[-1] == "large" and set(done[1:3]) == {"one", "two"}
    assert runtime.batches[1] == 12  # 1 and 2, and 9 of the large one


def test_clients_have_equal_shares_whatever_they_ask_for(runtime: Gated):
    """One client has ten requests of 12 images waiting; another's single one is done after the first micro-batches."""
    done: list[str] = []

    async def scenario() -> None:
        async with batcher_of(runtime) as batcher:
            tasks = await waiting(batcher, runtime)
            for i in range(10):
                tasks.append(asyncio.create_task(batcher.run(rows(runtime, 12, start=12 * i), client="many")))
            tasks.append(asyncio.create_task(batcher.run(rows(runtime, 12), client="one")))
            for i, task in enumerate(tasks):
                task.add_done_callback(lambda _, i=i: done.append("one" if i == 11 else "many" if i else "first"))
            await asyncio.sleep(0.01)
            runtime.go.set()
            await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert done[0] == "first" and "one" in done[1:3]
    assert runtime.batches == [1, *[12] * 11]


def test_requests_of_one_size_are_done_in_order(runtime: Gated):
    done: list[int] = []

    async def scenario() -> None:
        async with batcher_of(runtime) as batcher:
            tasks = await waiting(batcher, runtime, *(rows(runtime, 12, start=12 * i) for i in range(5)))
            for i, task in enumerate(tasks):
                task.add_done_callback(lambda _, i=i: done.append(i))
            runtime.go.set()
            await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert done == list(range(6))
    assert runtime.batches == [1, *[12] * 5], "each of the five in a micro-batch of its own"


def test_sizes_have_equal_shares_so_none_starves(runtime: Gated):
    """A client has a large request and many small ones: each kind gets half of every micro-batch."""
    done: list[str] = []

    async def scenario() -> None:
        async with batcher_of(runtime) as batcher:
            small = [rows(runtime, 1, start=i) for i in range(60)]
            tasks = await waiting(batcher, runtime, rows(runtime, 30), *small)
            for i, task in enumerate(tasks):
                task.add_done_callback(lambda _, i=i: done.append("large" if i == 1 else "small" if i else "first"))
            runtime.go.set()
            await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert 24 <= done.index("large") - 1 <= 30, "of the small ones, 6 in each of its 5 micro-batches"
    assert runtime.batches == [1, *[12] * 7, 6]


def test_shares_are_max_min_fair():
    assert fair_shares([256, 2, 1], 12) == [9, 2, 1]
    assert fair_shares([5, 5], 12) == [5, 5]
    assert fair_shares([7, 9, 8], 12) == [4, 4, 4]
    assert fair_shares([3, 3], 5) == [2, 3], "nothing of the room is left over"
    assert fair_shares([1] * 12, 12) == [1] * 12


def test_the_threads_of_a_model_compute_at_once_and_share(model: Model):
    runtime = Gated(model, threads=3)
    expected = Runtime(model).synthesize(rows(runtime, 30))

    async def scenario() -> np.ndarray:
        async with batcher_of(runtime) as batcher:
            task = asyncio.create_task(batcher.run(rows(runtime, 30)))
            while len(runtime.batches) < 3:
                await asyncio.sleep(0.01)
            assert runtime.batches == [10, 10, 10] and not task.done()
            runtime.go.set()
            return await task

    np.testing.assert_array_equal(asyncio.run(asyncio.wait_for(scenario(), 10)), expected)


def test_a_request_that_fails_in_one_thread_is_answered_once(model: Model):
    class Half(Gated):
        """Fails for the rows of label 0."""

        def compute(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
            images = super().compute(inputs)
            if not inputs["label"].any():
                raise RuntimeError("out of memory")
            return images

    runtime = Half(model, threads=2)

    async def scenario() -> None:
        async with batcher_of(runtime) as batcher:
            inputs = generation.sample(runtime, n=24, seed=7, labels=[0] * 12 + [1] * 12).inputs
            task = asyncio.create_task(batcher.run(inputs))
            while len(runtime.batches) < 2:
                await asyncio.sleep(0.01)
            runtime.go.set()
            with pytest.raises(RuntimeError, match="out of memory"):
                await task
            assert len(await batcher.run(rows(runtime, 2, start=1))) == 2

    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert runtime.batches[:2] == [12, 12] and sum(runtime.batches) == 26


def test_latents_and_styles_are_joined(repository_folder: Path):
    """A style model is asked for samples, which it maps itself, and for mixes, whose w was made before."""
    runtime = Runtime(load_model(repository_folder / "tiny-style"), threads=1)
    plans = [generation.sample(runtime, n=2, seed=1)] * 3
    z = latents(address_range(1, 0, 2), runtime.model.latent_size)
    w = runtime.map(z, plans[0].inputs["psi"])
    expected = runtime.synthesize({"w": w})

    async def scenario() -> list[np.ndarray]:
        batcher = Batcher(runtime)
        requests = [batcher.run(inputs) for inputs in (plans[0].inputs, {"w": w}, plans[1].inputs, plans[2].inputs)]
        found = await asyncio.gather(*requests)
        await batcher.close()
        return found

    for images in asyncio.run(scenario()):
        np.testing.assert_array_equal(images, expected)


def test_more_clients_than_room_take_turns(runtime: Gated):
    """30 clients ask for 2 images, 12 of room: everyone gets its first image before anyone its second."""

    async def scenario() -> None:
        async with batcher_of(runtime) as batcher:
            tasks = await waiting(batcher, runtime)
            for i in range(30):
                inputs = generation.sample(runtime, n=2, seed=7, start=2 * i, labels=[0, 1]).inputs
                tasks.append(asyncio.create_task(batcher.run(inputs, client=str(i))))
            await asyncio.sleep(0.01)
            runtime.go.set()
            await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert runtime.batches == [1, 12, 12, 12, 12, 12]
    assert runtime.labels[1:] == [0] * 30 + [1] * 30, "which image of its request each was"


def test_the_rest_of_a_cancelled_request_is_not_computed(runtime: Gated):
    async def scenario() -> None:
        async with batcher_of(runtime) as batcher:
            _, large, small = await waiting(batcher, runtime, rows(runtime, 256), rows(runtime, 3))
            assert batcher.images == 260
            large.cancel()
            await asyncio.sleep(0.01)
            assert batcher.images == 4
            runtime.go.set()
            assert len(await small) == 3

    asyncio.run(scenario())
    assert runtime.batches == [1, 3]


def test_a_request_cancelled_while_under_way_harms_nobody(runtime: Gated):
    async def scenario() -> None:
        async with batcher_of(runtime) as batcher:
            (first,) = await waiting(batcher, runtime)
            first.cancel()
            await asyncio.sleep(0.01)
            assert batcher.images == 1  # it is still being computed
            runtime.go.set()
            assert len(await batcher.run(rows(runtime, 2))) == 2

    asyncio.run(scenario())


def test_a_late_request_is_told_and_not_computed(runtime: Gated):
    async def scenario() -> None:
        async with batcher_of(runtime) as batcher:
            first, in_time = await waiting(batcher, runtime, rows(runtime, 2))
            late = asyncio.create_task(batcher.run(rows(runtime, 100), deadline=time.monotonic() + 0.02))
            later = asyncio.create_task(batcher.run(rows(runtime, 4), deadline=time.monotonic() + 60))
            await asyncio.sleep(0.05)
            runtime.go.set()
            with pytest.raises(DeadlineExceeded):
                await late
            assert [len(images) for images in await asyncio.gather(first, in_time, later)] == [1, 2, 4]

    asyncio.run(scenario())
    assert runtime.batches == [1, 6]


def test_an_error_fails_only_the_requests_of_its_micro_batch(runtime: Gated):
    async def scenario() -> None:
        async with batcher_of(runtime) as batcher:
            first, large = await waiting(batcher, runtime, rows(runtime, 40))
            runtime.fail = True
            runtime.go.set()
            for task in (first, large):
                with pytest.raises(RuntimeError, match="out of memory"):
                    await task
            assert batcher.images == 0
            runtime.fail = False
            assert len(await batcher.run(rows(runtime, 2))) == 2

    asyncio.run(scenario())
    assert runtime.batches == [1, 12, 2]  # 28 rows of the failed request were dropped


def test_a_full_queue_refuses_and_says_for_how_long(runtime: Gated):
    async def scenario() -> None:
        async with batcher_of(runtime, max_queue=10) as batcher:
            first, nine = await waiting(batcher, runtime, rows(runtime, 9))
            with pytest.raises(Overloaded) as caught:
                await batcher.run(rows(runtime, 1))
            assert 0 < caught.value.retry_after < 60
            runtime.go.set()
            await asyncio.gather(first, nine)
            assert len(await batcher.run(rows(runtime, 1))) == 1

    asyncio.run(scenario())


def test_an_empty_queue_takes_a_request_of_any_size(runtime: Gated):
    async def scenario() -> None:
        runtime.go.set()
        async with batcher_of(runtime, max_queue=10) as batcher:
            assert len(await batcher.run(rows(runtime, 100))) == 100

    asyncio.run(scenario())


def test_close_finishes_what_was_accepted_and_takes_no_more(runtime: Gated):
    async def scenario() -> None:
        batcher = Batcher(runtime, max_batch=ROOM)
        tasks = await waiting(batcher, runtime, rows(runtime, 40))
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.01)
        with pytest.raises(Closed):
            await batcher.run(rows(runtime, 1))
        assert not closing.done()
        runtime.go.set()
        assert [len(images) for images in await asyncio.gather(*tasks)] == [1, 40]
        await asyncio.wait_for(closing, 10)
        await asyncio.wait_for(batcher.close(), 10)  # twice does no harm

    asyncio.run(scenario())


def test_an_event_loop_that_ended_does_not_end_the_batcher(runtime: Gated):
    batcher = Batcher(runtime, max_batch=ROOM)

    async def leave() -> None:
        await waiting(batcher, runtime, rows(runtime, 20))

    async def scenario() -> None:
        runtime.go.set()
        assert len(await batcher.run(rows(runtime, 3))) == 3
        await batcher.close()

    asyncio.run(leave())
    asyncio.run(scenario())


def test_it_reports_each_micro_batch_and_each_requests_time(runtime: Gated):
    told: list[tuple[int, float]] = []
    waited, large = Times(), Times()

    async def scenario() -> None:
        async with batcher_of(runtime, on_batch=lambda images, seconds: told.append((images, seconds))) as batcher:
            (first,) = await waiting(batcher, runtime)
            others = [batcher.run(rows(runtime, 2), times=waited), batcher.run(rows(runtime, 20), times=large)]
            tasks = [asyncio.create_task(other) for other in others]
            await asyncio.sleep(0.05)
            runtime.go.set()
            await asyncio.gather(first, *tasks)
            assert batcher.computed == 23

    asyncio.run(scenario())
    assert [images for images, _ in told] == [1, 12, 10] and all(seconds > 0 for _, seconds in told)
    assert waited.queue > 0.04 and large.queue > 0.04, "both waited for the first micro-batch"
    assert large.compute > 0


def test_a_request_that_was_never_begun_has_only_waited(runtime: Gated):
    times = Times()

    async def scenario() -> None:
        async with batcher_of(runtime) as batcher:
            (first,) = await waiting(batcher, runtime)
            late = asyncio.create_task(batcher.run(rows(runtime, 2), deadline=time.monotonic() + 0.01, times=times))
            await asyncio.sleep(0.05)
            runtime.go.set()
            await first
            with pytest.raises(DeadlineExceeded):
                await late

    asyncio.run(scenario())
    assert times.queue > 0.04 and times.compute == 0


def test_a_lone_short_request_is_computed_at_once(model: Model, monkeypatch: pytest.MonkeyPatch):
    class Where(Runtime):
        threads_of: ClassVar[list[str]] = []

        def compute(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
            self.threads_of.append(threading.current_thread().name)
            return super().compute(inputs)

    runtime = Where(model, threads=1)

    async def scenario() -> None:
        batcher, times = Batcher(runtime, max_queue=10), Times()
        monkeypatch.setattr(module, "ALONE_SECONDS", 1e-9)
        await batcher.run(rows(runtime, 1), alone=True)
        monkeypatch.setattr(module, "ALONE_SECONDS", 1000)
        images = await batcher.run(rows(runtime, 5), alone=True, times=times)
        np.testing.assert_array_equal(images, Runtime(model).synthesize(rows(runtime, 5)))
        assert (batcher.images, batcher.computed) == (0, 6) and times.compute > 0
        await batcher.run(rows(runtime, 5))
        await batcher.close()
        with pytest.raises(Closed):
            await batcher.run(rows(runtime, 1), alone=True)

    asyncio.run(scenario())
    ours = threading.current_thread().name
    assert runtime.threads_of == ["batcher-tiny-cgan-0", ours, "batcher-tiny-cgan-0"]


def test_what_is_being_prepared_has_its_place_in_the_queue(runtime: Gated):
    async def scenario() -> None:
        async with batcher_of(runtime, max_queue=10) as batcher:
            with batcher.reserve(1000):  # the queue is empty
                with pytest.raises(Overloaded), batcher.reserve(1):
                    pass
                with pytest.raises(Overloaded):
                    await batcher.run(rows(runtime, 1))
            tasks = await waiting(batcher, runtime, rows(runtime, 6))
            with batcher.reserve(3), pytest.raises(Overloaded), batcher.reserve(1):
                pass
            tasks.append(asyncio.create_task(batcher.run(rows(runtime, 3))))
            runtime.go.set()
            await asyncio.gather(*tasks)
        with pytest.raises(Closed), batcher.reserve(1):
            pass

    asyncio.run(scenario())
