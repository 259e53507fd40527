"""FastAPI and uvicorn: one process with uvloop, httptools and no access log.

A lock guards the model. If `BATCHER` is set, a queue batches the waiting requests instead.
"""

import asyncio
import os
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel, Field

from benchmarks.serving.peers import model

MAX_BATCH = 64  # images


class Body(BaseModel):
    seed: int = Field(ge=0, lt=2**64)
    start: int = Field(0, ge=0, lt=2**64)
    n: int = Field(1, ge=1, le=256)


class Locked:
    def __init__(self, runtime: model.Runtime):
        self._runtime = runtime
        self._lock = asyncio.Lock()

    async def draw(self, addresses: list[model.Address]):
        async with self._lock:
            return await asyncio.to_thread(model.draw, self._runtime, addresses)


class Batched:
    def __init__(self, runtime: model.Runtime):
        self._runtime = runtime
        self._queue: asyncio.Queue = asyncio.Queue()
        self._task = asyncio.create_task(self._work())

    async def draw(self, addresses: list[model.Address]):
        future = asyncio.get_running_loop().create_future()
        await self._queue.put((addresses, future))
        return await future

    async def _work(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and sum(len(addresses) for addresses, _ in batch) < MAX_BATCH:
                batch.append(self._queue.get_nowait())
            images = await asyncio.to_thread(
                model.draw, self._runtime, [a for addresses, _ in batch for a in addresses]
            )
            start = 0
            for addresses, future in batch:
                if not future.done():
                    future.set_result(images[start : start + len(addresses)])
                start += len(addresses)


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.model = (Batched if os.environ.get("BATCHER") else Locked)(model.load())
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/sample")
async def sample(body: Body) -> Response:
    images = await app.state.model.draw(model.address_range(body.seed, body.start, body.n))
    return Response(model.reply(images), media_type="image/png" if body.n == 1 else "application/x-npy")


@app.get("/livez")
async def livez() -> dict[str, str]:
    return {"status": "alive"}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), loop="uvloop", http="httptools", access_log=False)
