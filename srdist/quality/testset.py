"""What a network is evaluated on: a folder of HR images, HR and LR folders, or packed shards in; named LR, HR pairs out.

Apart from the scoring because only this file knows where pairs come from. Images that cannot be used come out as
a `Failure`, in their place; the others go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from srdist.degradations.degradation import Degradation
from srdist.degradations.packed import PackedLR
from srdist.images.decode import UnreadableImageError, decode_rgb
from srdist.images.folder import Walk, read_regular
from srdist.images.partners import partners
from srdist.images.pixels import mod_crop
from srdist.machine.errors import UserError
from srdist.shards.plan import key_of
from srdist.shards.reader import ShardIndex
from srdist.stream.pairs import EvalStream, Pair
from srdist.stream.patches import named_keys
from srdist.stream.share import Share


@dataclass(frozen=True, slots=True)
class NamedPair:
    """A batch of LR and HR images, and what they are called."""

    names: tuple[str, ...]
    lr: UInt8[Tensor, "n 3 h w"]
    hr: UInt8[Tensor, "n 3 H W"]


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class PairFile:
    """One HR file, its name in the table, and the LR file that belongs to it (None: LR is made)."""

    name: str
    hr: Path
    lr: Path | None


def find_images(place: Path) -> tuple[dict[str, Path], list[Failure]]:
    """The image files in a folder and all below it, or the one file, by their path in it, sorted; and what is no file.

    Raises:
        UserError: no such folder, or no image in it.
    """
    if not place.exists():
        raise UserError(f"{place}: no such folder")
    # A link back to a folder above it shows images that are listed already.
    walk = Walk(place)
    images = {file.path: walk.folder / file.path for file in walk}
    return images, [Failure(path, reason) for path, reason in walk.unreadable]


def plan_pairs(hr: Path, lr: Path | None, *, scale: int) -> tuple[list[PairFile], list[Failure]]:
    """Which files belong together: LR files by the HR file's relative path, else by name up to x2, _LR, _HR and the suffix.

    Raises:
        UserError: a folder without images, or two LR files that an HR image could mean.
    """
    hr_files, failures = find_images(hr)
    if lr is None:
        return [PairFile(name, path, None) for name, path in hr_files.items()], failures
    lr_files, _ = find_images(lr)  # the HR image of what cannot be read is listed below
    fitting = partners(hr_files, lr_files, scale=scale)
    pairs = []
    for name, path in hr_files.items():
        candidates = [lr_files[candidate] for candidate in fitting[name]]
        if len(candidates) > 1:
            raise UserError(f"{path}: two LR images fit it: {candidates[0]} and {candidates[1]}")
        if candidates:
            pairs.append(PairFile(name, path, candidates[0]))
        else:
            failures.append(Failure(name, f"no LR image of this name in {lr}"))
    return pairs, failures


def is_packed(place: str) -> bool:
    """Whether `place` is a set of shards (or an fsspec URL, which only such a set can be)."""
    return "://" in place or Path(place, "manifest.json").is_file()


def shard_pairs(
    index: ShardIndex, *, degradation: Degradation | PackedLR, share: Share, batch: int
) -> tuple[int, Iterator[NamedPair | Failure]]:
    """This rank's part of a split of packed shards: how many images, and batches of them, named by their keys.

    The pixels of a batch hold until the next one is asked for.
    """
    stream = EvalStream(index, degradation, share, batch=batch, workers=1, on_bad_sample="skip")
    mine = len(range(share.rank, len(index), share.world))
    return mine, _named(index, stream)


def _named(index: ShardIndex, stream: EvalStream) -> Iterator[NamedPair | Failure]:
    with stream:
        for pair in stream:
            yield from _usable(index, pair)


def _usable(index: ShardIndex, pair: Pair) -> Iterator[NamedPair | Failure]:
    """A batch without its damaged samples, each of which is a failure."""
    yield from (Failure(bad.key, f"{bad.shard} at offset {bad.offset}: {bad.reason}") for bad in pair.bad)
    whole = pair.weight > 0
    lr, hr, ids = (
        (pair.lr, pair.hr, pair.ids) if not pair.bad else (pair.lr[whole], pair.hr[whole], pair.ids[whole])
    )
    if len(ids):
        yield NamedPair(tuple(index.key(int(i)) for i in ids), lr, hr)


def folder_pairs(
    hr: Path, lr: Path | None, *, scale: int, degradation: Degradation | None, share: Share
) -> tuple[int, Iterator[NamedPair | Failure]]:
    """This rank's part of the image files under `hr`: how many, and each as a batch of one or as a failure."""
    files, failures = plan_pairs(hr, lr, scale=scale)
    mine = files[share.rank :: share.world]
    missing = failures if share.rank == 0 else []
    return len(missing) + len(mine), chain(missing, read_pairs(mine, scale=scale, degradation=degradation))


def read_pairs(
    files: list[PairFile], *, scale: int, degradation: Degradation | None
) -> Iterator[NamedPair | Failure]:
    """Decode each pair; HR is cropped to a multiple of `scale`, and where there is no LR file `degradation` makes LR."""
    for file in files:
        try:
            yield read_pair(file, scale=scale, degradation=degradation)
        except (UnreadableImageError, OSError) as error:
            yield Failure(
                file.name, error.strerror or str(error) if isinstance(error, OSError) else str(error)
            )


def read_pair(file: PairFile, *, scale: int, degradation: Degradation | None) -> NamedPair:
    """Decode one pair; the errors name the LR file, not the HR file, which the caller knows."""
    whole = decode_rgb(read_regular(file.hr)).unsqueeze(0)
    hr = mod_crop(whole, scale)
    height, width = hr.shape[-2] // scale, hr.shape[-1] // scale
    if not (height and width):
        raise UnreadableImageError(f"{_size(whole)} pixels, smaller than the scale {scale}")
    if file.lr is None:
        assert degradation is not None
        # What is random comes from the name, as it does in a packed set of these files.
        made = degradation(hr.permute(0, 2, 3, 1).numpy(), named_keys([key_of(file.name)]))
        return NamedPair((file.name,), torch.from_numpy(made).permute(0, 3, 1, 2), hr)
    try:
        lr = decode_rgb(read_regular(file.lr)).unsqueeze(0)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"LR image {file.lr}: {error}") from error
    if lr.shape[-2:] != (height, width):
        raise UnreadableImageError(
            f"LR image {file.lr} has {_size(lr)} pixels, expected {width}x{height} (HR {_size(whole)} at scale {scale})"
        )
    return NamedPair((file.name,), lr, hr)


def _size(image: Tensor) -> str:
    return f"{image.shape[-1]}x{image.shape[-2]}"
