"""LitServe with its own batching: one process for the model and one for HTTP."""

import os

import litserve
from fastapi import Response

from benchmarks.serving.peers import model


class Sample(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self._runtime = model.load()

    def decode_request(self, request: dict) -> model.Address:
        return model.Address(request["seed"], request["start"])

    def batch(self, inputs: list[model.Address]) -> list[model.Address]:
        return list(inputs)

    def predict(self, addresses: list[model.Address]):
        return model.draw(self._runtime, addresses)

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output) -> Response:
        return Response(model.reply(output[None]), media_type="image/png")


if __name__ == "__main__":
    api = Sample(max_batch_size=64, batch_timeout=0.001, api_path="/v1/sample")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), log_level="error", generate_client_file=False)
