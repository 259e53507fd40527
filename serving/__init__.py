"""Pictures from generative adversarial networks: the engine that makes them, the service, and the command line."""

__version__ = "0.2.0"
