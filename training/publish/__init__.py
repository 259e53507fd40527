"""A run as a published model: ONNX files, model.json, and the model card with its images."""
