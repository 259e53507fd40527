"""Generate images from addresses with NumPy and ONNX Runtime, without HTTP. Usable as a library.

models = load_repository("models")
runtime = Runtime(models["dcgan-mnist"])
plan = generation.sample(runtime, n=16, seed=7)
images = runtime.synthesize(plan.inputs)  # (16, 28, 28, 1) uint8
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime reads it when it is imported
