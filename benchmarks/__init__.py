"""Benchmarks against other software. Each comparison is one run on one machine."""
