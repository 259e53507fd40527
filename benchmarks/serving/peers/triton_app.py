"""Triton Inference Server through NVIDIA's pytriton, with its dynamic batcher. Its Python backend encodes the PNG."""

import os

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.serving.peers import model


def main() -> None:
    runtime = model.load()

    @batch
    def sample(address: np.ndarray) -> dict[str, np.ndarray]:
        images = model.draw(runtime, [model.Address(int(seed), int(index)) for seed, index in address])
        return {"png": np.array([[model.reply(image[None])] for image in images], dtype=np.object_)}

    port = int(os.environ["PORT"])
    config = TritonConfig(http_address="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_port=port + 2)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="sample",
            infer_func=sample,
            inputs=[Tensor(name="address", dtype=np.uint64, shape=(2,))],
            outputs=[Tensor(name="png", dtype=bytes, shape=(1,))],
            config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.serve()


if __name__ == "__main__":
    main()
