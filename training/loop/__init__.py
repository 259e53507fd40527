"""Training of one run: the trainer and its steps, the loop around it, what it saves and how it is launched."""
