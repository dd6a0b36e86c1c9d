"""Pieces of images on their way through a network, and how images are cut into pieces of one shape, which share a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from srdist.networks.tiling import Box, cut


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one image."""

    image: Shaped[np.ndarray, "h w c"]
    """LR, whole."""
    output: Shaped[np.ndarray, "H W c"]
    """What it is written into."""
    area: Box
    """The part of the image that `output` is of."""
    inner: Box
    """What is made of it."""
    wide: Box
    """What the network is given: reaches below and to the right of the image where that gives it the shape of others."""

    def pixels(self) -> Shaped[np.ndarray, "i j c"]:
        """LR of `wide`; beyond the image those of its edge."""
        inside = self.image[self.wide.top : self.wide.bottom, self.wide.left : self.wide.right]
        height, width, _ = inside.shape
        below = self.wide.bottom - self.wide.top - height
        beside = self.wide.right - self.wide.left - width
        return np.pad(inside, ((0, below), (0, beside), (0, 0)), mode="edge") if below or beside else inside

    def write(self, made: Shaped[np.ndarray, "I J c"], *, scale: int) -> None:
        """Write its part of the output of `wide`."""
        self.output[self.inner.slices(scale, origin=self.area)] = made[
            self.inner.slices(scale, origin=self.wide)
        ]

    def cut(self, *, tile: int, halo: int, multiple: int) -> Iterator[Piece]:
        """The same in smaller pieces."""
        height, width, _ = self.image.shape
        for part in cut(self.inner, tile=tile):
            wide = part.grown(halo, height=height, width=width, multiple=multiple)
            yield Piece(self.image, self.output, self.area, part, wide)


def fit_one_batch(one: tuple[int, int], other: tuple[int, int], *, halo: int, largest: int) -> bool:
    """Whether images of two sizes, (height, width), are near enough for `padded`, in LR pixels.

    Args:
        largest: side of an image that is not cut into tiles.
    """
    return all(
        abs(a - b) <= max(a, b) // 8 and 2 * halo <= min(a, b) and max(a, b) <= largest
        for a, b in zip(one, other, strict=True)
    )


def padded(images: Sequence[np.ndarray], outputs: Sequence[np.ndarray], *, halo: int) -> Iterator[Piece]:
    """Images of near-equal sizes as pieces of at most four shapes.

    Each image but for what lies within `halo` of a lower or right border that others go beyond; and these strips, which
    end at the true border: so no value that is kept has seen the padding.
    """
    halo = max(halo, 1)
    bottom, right = (max(image.shape[axis] for image in images) for axis in (0, 1))
    for image, output in zip(images, outputs, strict=True):
        height, width, _ = image.shape
        area = Box(0, height, 0, width)
        rows, columns = _spans(height, bottom, halo), _spans(width, right, halo)
        for (top, low), (first, last) in rows:
            for (left, end), (begin, stop) in columns:
                yield Piece(image, output, area, Box(top, low, left, end), Box(first, last, begin, stop))


def _spans(length: int, longest: int, halo: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """(made, looked at) along one side of an image that is padded to the longest."""
    if length == longest:
        return [((0, length), (0, length))]
    inside = length - halo
    return [((0, inside), (0, longest)), ((inside, length), (length - 2 * halo, length))]


def tiles(
    image: Shaped[np.ndarray, "h w c"],
    output: Shaped[np.ndarray, "H W c"],
    area: Box,
    *,
    tile: int,
    halo: int,
    multiple: int,
    alike: bool,
) -> Iterator[Piece]:
    """The part `area` of an image in tiles, each with its halo.

    Args:
        alike: all with as much around them as gives them one shape, which a batch must have.
    """
    height, width, _ = image.shape
    boxes = list(cut(area, tile=tile))
    if not alike:
        for box in boxes:
            wide = box.grown(halo, height=height, width=width, multiple=multiple)
            yield Piece(image, output, area, box, wide)
        return
    around = 2 * halo + multiple - 1
    rows = max(box.bottom - box.top for box in boxes) + around
    columns = max(box.right - box.left for box in boxes) + around
    rows, columns = (side + -side % multiple for side in (rows, columns))
    for box in boxes:
        top, bottom = _widened(box.top, halo, rows, height, multiple)
        left, right = _widened(box.left, halo, columns, width, multiple)
        yield Piece(image, output, area, box, Box(top, bottom, left, right))


def _widened(start: int, halo: int, side: int, length: int, multiple: int) -> tuple[int, int]:
    """`side` pixels, or all, that begin at least `halo` before `start`, within `length`, on the network's grid."""
    first = max(min(start - halo, length - side), 0)
    first -= first % multiple
    # Moved back from the end onto the grid: what is then missing there belongs to it.
    stop = first + side
    return first, length if stop + multiple > length else stop
