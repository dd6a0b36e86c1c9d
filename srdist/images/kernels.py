"""The resampling kernels by name: apart from resizing itself, so that a config is read without importing torch."""

from __future__ import annotations

from typing import Literal

Kernel = Literal["bicubic", "bilinear", "nearest", "box", "lanczos"]
"""All but nearest are antialiased when images are made smaller, as Pillow's are."""
