"""Super-resolution networks: trained on one process or many GPUs, and applied to directories of images."""

__version__ = "0.1.0"
