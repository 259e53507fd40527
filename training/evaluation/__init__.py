"""Metrics of an exported model: one file a metric or family of metrics, named after it."""
