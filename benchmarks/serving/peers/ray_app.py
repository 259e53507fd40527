"""Ray Serve with its own batching and one replica."""

import os
import signal

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.serving.peers import model


@serve.deployment(max_ongoing_requests=256)
class Sample:
    def __init__(self) -> None:
        self._runtime = model.load()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0)
    async def draw(self, addresses: list[model.Address]) -> list:
        return list(model.draw(self._runtime, addresses))

    async def __call__(self, request: Request) -> Response:
        body = await request.json()
        image = await self.draw(model.Address(body["seed"], body["start"]))
        return Response(model.reply(image[None]), media_type="image/png")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])}, logging_config={"enable_access_log": False}
    )
    serve.run(Sample.bind(), route_prefix="/v1/sample")
    try:
        signal.pause()
    except KeyboardInterrupt:
        ray.shutdown()
