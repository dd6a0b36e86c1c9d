"""The plan of a directory job: every image once, with its output, its size in pixels and its unit of work.

The plan is a pure function of the folder's content, so that processes that never talk to each other share out the
same units. It is held in columns, about 75 bytes an image: a million images must fit beside the work.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from srdist.images.folder import Walk
from srdist.images.photo import probe_size
from srdist.upscaling.job import Job
from srdist.upscaling.outputs import Outputs, leads_into, usual_output

UNITS = 256
"""Units that a large job is cut into, if their size stays between the two bounds below."""
MIN_UNIT_PIXELS = 1 << 16
"""LR pixels of a unit, at least: below, claiming costs more than it balances."""
MAX_UNIT_PIXELS = 1 << 23
"""LR pixels of a unit, at most (a single larger image is a unit): what a killed process may leave half done."""
MAX_UNIT_IMAGES = 256
"""Images of a unit, at most."""
PROBED_AT_A_TIME = 1024
"""Headers that are handed to the threads in one go."""


@dataclass(frozen=True, slots=True)
class Item:
    """One input image and where its output goes."""

    index: int
    """Position in the plan."""
    path: str
    """Relative to SRC, with slashes."""
    output: str
    """Relative to DST, with slashes."""
    size: int
    """Bytes of the input file."""
    mtime_ns: int
    """Modification time of the input file."""
    pixels: int
    """Width times height from the header; 0 where it cannot be read."""


class Paths:
    """Paths in ascending order of their bytes, all in one piece of memory."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])

    def append(self, path: str) -> None:
        """Add one that is greater than all before."""
        self._bytes += os.fsencode(path)
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, i: int) -> str:
        return os.fsdecode(self._raw(i))

    def find(self, path: str) -> int | None:
        """Its position, None where it is not among them."""
        raw = os.fsencode(path)
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._raw(middle) < raw:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self._raw(low) == raw else None

    def _raw(self, i: int) -> bytes:
        return bytes(self._bytes[self._ends[i] : self._ends[i + 1]])


class Inputs:
    """All images of a folder and where their outputs go, in columns."""

    def __init__(self, job: Job) -> None:
        """List them.

        Raises:
            UserError: there is none.
        """
        output_format = job.output.format
        walk, outputs = Walk(job.source), Outputs(output_format)
        self.folder = walk.folder
        """What the paths are relative to."""
        self.paths = Paths()
        self.sizes, self.mtimes_ns = array("q"), array("q")
        self._format = output_format
        self._unusual: dict[int, str] = {}  # outputs whose name does not follow from the input's alone
        hashed = hashlib.sha256()
        in_destination: list[tuple[str, str]] = []
        for file in walk:
            if file.is_link and leads_into(walk.folder / file.path, job.destination):
                in_destination.append(
                    (file.path, f"leads into DST {job.destination}: an output would become an input")
                )
                continue
            output = outputs.of(file)
            if output != usual_output(file.path, output_format=output_format):
                self._unusual[len(self.paths)] = output
            self.paths.append(file.path)
            self.sizes.append(file.size)
            self.mtimes_ns.append(file.mtime_ns)
            hashed.update(json.dumps([file.path, file.size, file.mtime_ns, output]).encode() + b"\n")
        self.digest = hashed.hexdigest()
        """Of names, sizes, times and output names."""
        self.links_not_followed = tuple(walk.links_not_followed)
        """Symbolic links to folders that lead back to a folder above them."""
        self.unreadable = (*walk.unreadable, *in_destination)
        """What could not be listed or is no file that can be read, and why (see folder.Walk)."""
        self.folders_not_listed = sum(path.endswith("/") for path, _ in walk.unreadable)
        self.images = len(self.paths) + len(self.unreadable) - self.folders_not_listed
        """Images of the plan, and files that are named like one and cannot be read."""
        self.skipped = dict(walk.others.most_common())
        """Files that are no images by their suffix, by this suffix."""

    def __len__(self) -> int:
        return len(self.paths)

    def output(self, i: int) -> str:
        """Path of an image's output relative to DST."""
        return self._unusual.get(i) or usual_output(self.paths[i], output_format=self._format)


class Plan:
    """All inputs with their sizes in pixels, and their cut into units."""

    def __init__(
        self,
        inputs: Inputs,
        *,
        cache: Path,
        write: Callable[[Path, bytes], None],
        show: Callable[[int, int], None] = lambda _probed, _images: None,
    ) -> None:
        """Read the inputs' sizes from their headers, and cut them into units.

        Args:
            cache: folder where the sizes are kept, under the digest of the inputs: reading a million headers takes minutes.
            write: writes a whole file there.
            show: called every so often with the images whose size is known, and all.
        """
        self.inputs = inputs
        self.pixels = _cached_pixels(inputs, cache / f"{inputs.digest}.pixels", write=write, show=show)
        """Width times height of each image."""
        self.units = tuple(cut_units(self.pixels))
        """Positions; together each once, in order."""

    def __len__(self) -> int:
        return len(self.inputs)

    def item(self, i: int) -> Item:
        """What is known of one image."""
        of = self.inputs
        return Item(i, of.paths[i], of.output(i), of.sizes[i], of.mtimes_ns[i], self.pixels[i])


def _cached_pixels(
    inputs: Inputs, cache: Path, *, write: Callable[[Path, bytes], None], show: Callable[[int, int], None]
) -> array[int]:
    try:
        # A FIFO in its place would be waited for.
        kept = np.fromfile(cache, "<i8") if cache.is_file() else None
        if kept is not None and len(kept) == len(inputs):
            return array("q", kept.astype(np.int64).tobytes())
    except OSError:
        pass  # not there yet: read the headers

    def count(path: str) -> int:
        width, height = probe_size(inputs.folder / path)
        return width * height

    pixels = array("q")
    with ThreadPoolExecutor(8) as pool:
        for first in range(0, len(inputs), PROBED_AT_A_TIME):  # each that waits for its turn takes 2 kB
            show(first, len(inputs))
            some = range(first, min(first + PROBED_AT_A_TIME, len(inputs)))
            pixels.extend(pool.map(count, [inputs.paths[i] for i in some]))
    write(cache, np.asarray(pixels, "<i8").tobytes())
    for old in cache.parent.iterdir():
        if old.name != cache.name:
            old.unlink(missing_ok=True)
    return pixels


def cut_units(pixels: Sequence[int]) -> Iterator[range]:
    """Runs of positions of about equal pixels."""
    limit = min(max(sum(pixels) // UNITS, MIN_UNIT_PIXELS), MAX_UNIT_PIXELS)
    start, total = 0, 0
    for i, count in enumerate(pixels):
        if i > start and (total + count > limit or i - start == MAX_UNIT_IMAGES):
            yield range(start, i)
            start, total = i, 0
        total += count
    yield range(start, len(pixels))
