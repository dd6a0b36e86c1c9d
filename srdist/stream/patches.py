"""Which part of an image, and which way round: a pure function of (seed, epoch, sample id, patch).

Patches lie on the grid of the LR image, so that the LR of a patch is the same part of the LR of the whole image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Int64, UInt8, UInt64

from srdist.machine.mixing import mix64
from srdist.shards.permutation import PATCHES, stream_keys


def patch_keys(
    seed: int,
    epochs: Int64[np.ndarray, " n"],
    ids: Int64[np.ndarray, " n"],
    patches: Int64[np.ndarray, " n"],
) -> UInt64[np.ndarray, " n"]:
    """The random number of each patch, numbered from 0 in its image, in its epoch: what all its choices are made from."""
    keys = mix64(stream_keys(seed, PATCHES, epochs) ^ mix64(ids.astype(np.uint64)))
    others = mix64(keys ^ mix64(patches.astype(np.uint64)))
    # The first patch of an image is the one that it has where it has no others.
    return np.where(patches == 0, keys, others)


def named_keys(names: Iterable[str]) -> UInt64[np.ndarray, " n"]:
    """The random number of each image of a validation or evaluation, from its name without folders: it never changes.

    Args:
        names: keys as `recipe.key_of` makes them, with "/" between folders.
    """
    digests = (hashlib.sha256(name.rpartition("/")[2].encode()).digest() for name in names)
    return np.array([int.from_bytes(digest[:8]) for digest in digests], np.uint64)


def corners(
    keys: UInt64[np.ndarray, " n"], sizes: Int64[np.ndarray, "n 2"], *, hr_patch: int, scale: int
) -> Int64[np.ndarray, "n 2"]:
    """(top, left) of a patch in each image of (height, width) `sizes`, HR pixels, uniform over the LR grid."""
    places = (sizes - hr_patch) // scale + 1
    random = np.stack([mix64(keys + np.uint64(0)), mix64(keys + np.uint64(1))], axis=1)
    return (random % places.astype(np.uint64)).astype(np.int64) * scale


def windows(
    corners: Int64[np.ndarray, "n 2"],
    sizes: Int64[np.ndarray, "n 2"],
    *,
    hr_patch: int,
    scale: int,
    margin: int,
) -> tuple[Int64[np.ndarray, "n 2"], Int64[np.ndarray, "n 2"]]:
    """What to make the patches' LR from: (top, left) and (height, width) of each patch with `margin` around it.

    At an image's border the window is pushed inwards and keeps its size, so that windows make one batch; in
    an image that is smaller than that it is the whole image, cropped to a multiple of the scale.
    """
    sides = sizes - sizes % scale
    extents = np.minimum(sides, hr_patch + 2 * margin)
    return np.clip(corners - margin, 0, sides - extents), extents


def turns(keys: UInt64[np.ndarray, " n"], *, square: bool) -> Int64[np.ndarray, " n"]:
    """Which way round each sample is: 0 to 7 (mirror + 2 * quarter turns) if square, else 0 or 1 (mirror)."""
    return (mix64(keys + np.uint64(2)) % np.uint64(8 if square else 2)).astype(np.int64)


def turned(image_u8: UInt8[np.ndarray, "h w 3"], way: int) -> UInt8[np.ndarray, ...]:
    """An image turned (a view or a copy): quarter turns against the clock first, then mirrored left to right."""
    image_u8 = np.rot90(image_u8, way // 2) if way >= 2 else image_u8
    if way % 2:
        # torch's flip copies whole rows of pixels: 14 us for 178x218, where NumPy's negative stride takes 280.
        # A turned view is copied by `copy`: ascontiguousarray leaves the negative stride of a side of one pixel.
        whole = image_u8.copy() if way >= 2 else np.ascontiguousarray(image_u8)
        image_u8 = torch.from_numpy(whole).flip(1).numpy()
    return image_u8
