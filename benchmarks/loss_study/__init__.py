"""Every loss and stabiliser on two tasks of which all modes are known: `python -m benchmarks.loss_study`."""
