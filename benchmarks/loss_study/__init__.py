"""Ablation of all losses and stabilisers on two tasks whose modes are all known: `python -m benchmarks.loss_study`."""
