"""Where a set lies: a local folder, or an fsspec URL whose files are kept whole in a local cache (cache.py)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from srdist.images.decode import UnreadableImageError
from srdist.images.folder import open_regular
from srdist.machine.errors import UserError
from srdist.machine.redaction import HIDDEN, redacted
from srdist.shards.cache import Cache, waited_for
from srdist.shards.download import attempted
from srdist.shards.manifest import IndexEntry, ShardEntry

MAX_BYTES = 64 << 20
"""Of a file that is read whole: a manifest of 400,000 shards."""


@dataclass(frozen=True, slots=True)
class Place:
    """A set's folder or URL; `cache` is where a remote set's files are kept, once its manifest is known."""

    name: str
    cache: Cache | None = None

    @property
    def remote(self) -> bool:
        """Whether this is an fsspec URL."""
        return "://" in self.name

    @property
    def bounded(self) -> bool:
        """Whether its tars may be dropped from the cache: one that is open would still take its room."""
        return self.cache is not None and self.cache.bound is not None

    def of_manifest(self, manifest_id: str) -> Place:
        """This place with the cache of one manifest.

        Raises:
            UserError: SRDIST_CACHE_GB is no number above 0.
        """
        return Place(self.name, Cache.of_manifest(manifest_id)) if self.remote else self

    @property
    def shown(self) -> str:
        """Where the set lies, for messages: without credentials."""
        return redacted(self.name)

    def path_of(self, file: str) -> str:
        """A file of the set, for messages."""
        return redacted(self.url_of(file))

    def url_of(self, file: str) -> str:
        """A file of the set, with what the URL holds of credentials."""
        folder, mark, query = self.name.partition("?") if self.remote else (self.name, "", "")
        return f"{folder.rstrip('/')}/{file}{mark}{query}"

    def read(self, file: str) -> bytes | None:
        """A small file's bytes, fresh; None where there is no such file."""
        if self.remote:
            return self._read_remote(self.url_of(file))
        try:
            with open_regular(Path(self.name) / file) as opened:
                return _bounded(opened, self.path_of(file))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UnreadableImageError as error:
            raise UserError(f"{self.path_of(file)}: {error}") from error

    def _read_remote(self, url: str) -> bytes | None:
        if HIDDEN in self.name:
            raise UserError(
                f"{self.name}: {HIDDEN} stands for credentials, which are never saved: give the whole URL again"
            )

        def read(fs: Any, path: str) -> bytes:
            with fs.open(path, "rb") as file:
                return _bounded(file, redacted(url))

        try:
            return waited_for(url, lambda given_up: attempted(url, read, given_up=given_up))
        except FileNotFoundError:
            return None

    def local(self, entry: ShardEntry | IndexEntry) -> Path:
        """The local path of a file of the set, fetched first where the set is remote; of a tar in a bounded cache, it may go."""
        if self.cache is None:
            return Path(self.name) / entry.file
        os.close(self.open(entry))
        return self.cache.path(entry)

    def open(self, entry: ShardEntry | IndexEntry) -> int:
        """A descriptor of a file of the set, read-only; one that is open stays whole when the cache drops it."""
        if self.cache is None:
            # O_NONBLOCK: a FIFO opens at once, and then cannot be read. Regular files do not know it.
            return os.open(Path(self.name) / entry.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        return self.cache.open(entry, url=self.url_of(entry.file))


def _bounded(file: IO[bytes], shown: str) -> bytes:
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UserError(f"{shown}: more than {MAX_BYTES >> 20} MB, expected a manifest")
    return data
