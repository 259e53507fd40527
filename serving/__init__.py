"""Generate images with GANs: inference engine, HTTP service and command line."""

__version__ = "0.2.0"
