"""A directory of images through a network: each image once, whatever the number of processes, and nothing lost.

In goes a tree of image files, out comes the same tree enlarged. Processes share the work through a folder beside the
outputs (claims.py), each with this pipeline: threads read and decode, the network runs in the calling thread, threads
encode and write. `DST/summary.json` and `DST/failures.jsonl` say what became of it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from srdist.claims import Receipt, Receipts, Worker
from srdist.errors import UserError
from srdist.filetree import Item, list_inputs, make_plan, refuse_overlap
from srdist.imaging import IMAGE_SUFFIXES, UnreadableImageError
from srdist.photo import OutputFormat, Photo, decode_photo, encode_photo
from srdist.tally import Tally, UpscaleReport, is_there, write_summary
from srdist.tiling import Enlarger
from srdist.wholefile import whole_file

STATE = ".srdist"
"""Folder in DST of the claims and receipts."""
PIPELINE = "1"
"""Part of the settings digest: raised when a version of srdist would make other pixels of the same input."""
IN_FLIGHT_PIXELS = 1 << 25
"""LR pixels that a process holds decoded or waiting to be written, at most (one image may be more)."""
POLL_S = 0.3
"""Time between looks at what the other processes have left."""

_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""Write errors that the next image would meet too: they end the job, and the same command goes on later."""


@dataclass(frozen=True, slots=True)
class Output:
    """How outputs are stored."""

    format: OutputFormat | None = None
    """None = as the input (what cannot be written, GIF, becomes PNG)."""
    quality: int = 95
    """Of JPEG and WebP, 1 to 100."""
    overwrite: bool = False
    """Whether files in DST that no receipt knows may be replaced."""


Show = Callable[[Tally], None]


def upscale_file(source: Path, destination: Path, *, enlarger: Enlarger, output: Output) -> tuple[str, ...]:
    """Enlarge one image file into one file, whose suffix says the format; returns what was lost on the way."""
    if destination.exists() and not output.overwrite:
        raise UserError(f"{destination}: exists already; --overwrite replaces it")
    if destination.exists() and destination.samefile(source):
        raise UserError(f"{destination}: DST is SRC itself")
    photo = _decode(source.read_bytes(), name=str(source))
    large = replace(photo, pixels=enlarger.enlarge(photo.pixels))
    try:
        data, notes = encode_photo(large, suffix=destination.suffix.lower(), quality=output.quality)
    except ValueError as error:
        raise UserError(f"{destination}: {error}") from error
    with whole_file(destination) as temporary:
        temporary.write_bytes(data)
    return photo.notes + notes


def upscale_tree(
    source: Path,
    destination: Path,
    *,
    enlarger: Enlarger,
    weights_digest: str,
    output: Output,
    share: float,
    threads: int,
    show: Show,
) -> UpscaleReport:
    """Enlarge all images of a folder (or one file) into `destination`, together with whoever else does the same.

    Returns when every image is done or has failed, whoever did it.

    Args:
        weights_digest: of the network; outputs made with another are made again.
        share: where in the list to begin, 0 to below 1 (claims.share_of).
        threads: for decoding, and as many for encoding.
        show: called twice a second or so with the state of the whole job.
    """
    refuse_overlap(source, destination)
    listing = list_inputs(source)
    state = destination / STATE
    began = time.monotonic()
    with Worker(state) as worker:
        plan = make_plan(
            source, listing, output_format=output.format, cache=state / "plans", scratch=worker.scratch
        )
        settings = hashlib.sha256(
            json.dumps([PIPELINE, weights_digest, output.format, output.quality]).encode()
        ).hexdigest()[:16]
        tally = Tally(plan, Receipts(state / "receipts"), settings=settings, destination=destination)
        folder = source.parent if source.is_file() else source
        job = _Job(folder, destination, tally, worker, enlarger, output, threads)
        job.run(share, show)
        report = tally.report(seconds=time.monotonic() - began)
        write_summary(destination, report, tally, worker, source=source)
    return report


@dataclass(frozen=True, slots=True)
class _Loaded:
    """An input in memory."""

    item: Item
    photo: Photo
    sha256: str
    began: float


class _Job:
    """This process's part of the work."""

    def __init__(
        self,
        source: Path,
        destination: Path,
        tally: Tally,
        worker: Worker,
        enlarger: Enlarger,
        output: Output,
        threads: int,
    ) -> None:
        self.source, self.destination = source, destination
        self.plan, self.settings = tally.plan, tally.settings
        self.tally, self.worker, self.enlarger = tally, worker, enlarger
        self.output, self.threads = output, threads
        self.open_jobs: dict[int, int] = {}

    def run(self, share: float, show: Show) -> None:
        """Work until nothing is open, by whomever."""
        with ThreadPoolExecutor(self.threads) as readers, ThreadPoolExecutor(self.threads) as writers:
            try:
                while True:
                    self._work(self._claimed(share), readers, writers, show)
                    self.tally.refresh()
                    show(self.tally)
                    if not self.tally.count(Tally.OPEN):
                        return
                    time.sleep(POLL_S)
            except BaseException:
                readers.shutdown(cancel_futures=True)
                writers.shutdown(cancel_futures=True)
                raise

    def _claimed(self, share: float) -> Iterator[tuple[int, Item]]:
        """Open images of units that this process has claimed, from its share on, round the whole plan."""
        units = self.plan.units
        first, passed = 0, 0
        while passed < share * self.tally.total_pixels and first < len(units) - 1:
            passed += sum(self.plan.items[i].pixels for i in units[first])
            first += 1
        for step in range(len(units)):
            number = (first + step) % len(units)
            unit = units[number]
            if Tally.OPEN not in self.tally.state[unit.start : unit.stop]:
                continue
            if not self.worker.claim(self._name(number)):
                continue
            self.tally.refresh()  # whoever held it before may have done some of it
            open_items = [i for i in unit if self.tally.state[i] == Tally.OPEN]
            self.open_jobs[number] = len(open_items)
            if not open_items:
                self._settle(number, 0)
            for i in open_items:
                yield number, self.plan.items[i]

    def _work(
        self,
        claimed: Iterator[tuple[int, Item]],
        readers: ThreadPoolExecutor,
        writers: ThreadPoolExecutor,
        show: Show,
    ) -> None:
        reading: deque[tuple[int, Item, Future[_Loaded | None]]] = deque()
        writing: deque[tuple[int, Item, Future[None]]] = deque()
        shown = time.monotonic()
        while True:
            self._fill(reading, writing, claimed, readers)
            if not reading and not writing:
                return
            if group := self._next_group(reading):
                pixels = self.enlarger.enlarge_many([loaded.photo.pixels for _, loaded in group])
                for (number, loaded), large in zip(group, pixels, strict=True):
                    photo = replace(loaded.photo, pixels=large)
                    writing.append((number, loaded.item, writers.submit(self._write, loaded, photo)))
            while writing and (
                writing[0][2].done() or not reading or len(writing) > 2 * self.threads + len(group)
            ):
                number, _, written = writing.popleft()
                written.result()
                self._settle(number, 1)
            if time.monotonic() - shown > POLL_S:
                self.tally.refresh()
                show(self.tally)
                shown = time.monotonic()

    def _fill(
        self,
        reading: deque[tuple[int, Item, Future[_Loaded | None]]],
        writing: deque[tuple[int, Item, Future[None]]],
        claimed: Iterator[tuple[int, Item]],
        readers: ThreadPoolExecutor,
    ) -> None:
        """Start reading, as far ahead as the bounds on images and pixels allow."""
        held = sum(item.pixels for _, item, _ in reading) + sum(item.pixels for _, item, _ in writing)
        while not reading or (
            len(reading) < 2 * self.threads + self.enlarger.batch and held < IN_FLIGHT_PIXELS
        ):
            following = next(claimed, None)
            if following is None:
                return
            number, item = following
            reading.append((number, item, readers.submit(self._read, item)))
            held += item.pixels

    def _next_group(
        self, reading: deque[tuple[int, Item, Future[_Loaded | None]]]
    ) -> list[tuple[int, _Loaded]]:
        """The next images that were read, of one shape so that they go through the network together."""
        group: list[tuple[int, _Loaded]] = []
        while reading and len(group) < self.enlarger.batch:
            number, _, future = reading[0]
            loaded = future.result()
            if loaded and group and _kind(loaded) != _kind(group[0][1]):
                break
            reading.popleft()
            if loaded:
                group.append((number, loaded))
            else:
                self._settle(number, 1)
        return group

    def _settle(self, number: int, images: int) -> None:
        self.open_jobs[number] -= images
        if self.open_jobs[number] == 0:
            del self.open_jobs[number]
            self.worker.release(self._name(number))

    def _name(self, number: int) -> str:
        return f"{self.plan.digest[:12]}-{number:06d}"

    def _read(self, item: Item) -> _Loaded | None:
        """Decode one input; None where there is nothing more to do: it has failed, or only its date is new."""
        began = time.monotonic()
        try:
            data = (self.source / item.path).read_bytes()
        except OSError as error:
            self._fail(item, f"cannot be read: {error.strerror}")
            return None
        sha256 = hashlib.sha256(data).hexdigest()
        known = self.tally.receipts.by_path.get(item.path)
        ours = known is not None and known.output == item.output and known.status in ("done", "begun")
        target = self.destination / item.output
        if not ours and not self.output.overwrite and target.exists():
            self._fail(item, f"{target}: exists and was not made by srdist; --overwrite replaces it")
            return None
        if known and known.input_sha256 == sha256 and self._still_good(known, item):
            self.worker.record(replace(known, input_mtime_ns=item.mtime_ns))
            return None
        try:
            return _Loaded(item, decode_photo(data), sha256, began)
        except UnreadableImageError as error:
            self._fail(item, str(error))
            return None

    def _still_good(self, known: Receipt, item: Item) -> bool:
        return (
            known.status == "done"
            and known.settings == self.settings
            and known.output == item.output
            and is_there(self.destination, known)
        )

    def _write(self, loaded: _Loaded, photo: Photo) -> None:
        item = loaded.item
        target = self.destination / item.output
        receipt = Receipt(
            path=item.path,
            status="begun",
            output=item.output,
            settings=self.settings,
            input_bytes=item.size,
            input_mtime_ns=item.mtime_ns,
            input_sha256=loaded.sha256,
        )
        try:
            data, lost = encode_photo(photo, suffix=target.suffix.lower(), quality=self.output.quality)
            self.worker.record(receipt)
            with whole_file(target, scratch=self.worker.scratch) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            if error.errno in _FATAL:
                raise
            self._fail(item, f"{target}: cannot be written: {error.strerror or error}")
            return
        except ValueError as error:
            self._fail(item, str(error))
            return
        height, width, _ = loaded.photo.pixels.shape
        self.worker.record(
            replace(
                receipt,
                status="done",
                output_bytes=len(data),
                pixels=height * width,
                seconds=round(time.monotonic() - loaded.began, 3),
                notes=photo.notes + lost,
            )
        )

    def _fail(self, item: Item, reason: str) -> None:
        self.worker.record(
            Receipt(
                path=item.path,
                status="failed",
                output=item.output,
                settings=self.settings,
                input_bytes=item.size,
                input_mtime_ns=item.mtime_ns,
                reason=reason,
            )
        )


def digest_of(network: nn.Module) -> str:
    """Digest of a network's tensors and shape: outputs are made again when it changes."""
    hashed = hashlib.sha256(repr(network).encode())
    hashed.update(repr(getattr(network, "config", "")).encode())
    for name, tensor in sorted(network.state_dict().items()):
        hashed.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


def is_single_file(source: Path, destination: Path) -> bool:
    """Whether DST means one image file rather than a folder."""
    return source.is_file() and not destination.is_dir() and destination.suffix.lower() in IMAGE_SUFFIXES


def _kind(loaded: _Loaded) -> Any:
    return loaded.photo.pixels.shape, loaded.photo.pixels.dtype


def _decode(data: bytes, *, name: str) -> Photo:
    try:
        return decode_photo(data)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{name}: {error}") from error
