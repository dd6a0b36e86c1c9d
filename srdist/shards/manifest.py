"""manifest.json: what a packed set consists of, with a hash of everything, so that a set is known by one name.

docs/shards.md describes the file for other programs. `manifest_id` is the sha256 of the canonical JSON (sorted
keys, no white space) of all other fields: an edited manifest no longer fits its id, and is refused.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from srdist.machine.errors import UserError
from srdist.machine.mixing import mix64
from srdist.machine.plainjson import parse_json
from srdist.settings.section import problems

MANIFEST = "manifest.json"
LEFT_OUT = "left_out.jsonl"
_CHUNK = 1 << 20


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or "\0" in name:
        raise ValueError(f"{name!r} does not stay inside the set's folder")
    return name


FileName = Annotated[str, AfterValidator(_inside)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class ShardEntry(_Part):
    """One tar."""

    file: FileName
    samples: Annotated[int, Field(ge=1)]
    bytes: Count
    sha256: Sha256


class IndexEntry(_Part):
    """One split's index file."""

    file: FileName
    bytes: Count
    sha256: Sha256


class SplitEntry(_Part):
    """One split: its samples are numbered through its shards in the order of this list."""

    samples: Annotated[int, Field(ge=1)]
    heights: tuple[int, int]
    widths: tuple[int, int]
    ids_hash: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    index: IndexEntry
    shards: tuple[ShardEntry, ...]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = sum(shard.samples for shard in self.shards)
        if total != self.samples:
            raise ValueError(f"samples is {self.samples}, its shards hold {total}")
        return self


class Source(_Part):
    """Where the images came from: enough to recognise the set, nothing of the machine it was packed on."""

    name: str
    images: Count
    split_file_sha256: Sha256 | None = None


class Manifest(_Part):
    """A packed set. Heights and widths are (smallest, largest) of HR in pixels; left_out counts images by reason."""

    format: Literal["srdist-shards"] = "srdist-shards"
    version: Literal[1] = 1
    made_by: Literal["pack", "index"]
    source: Source
    pack_seed: int | None
    lr_scale: Annotated[int, Field(ge=2, le=8)] | None = None
    """Factor between HR and LR where each sample has both; None: samples are HR images alone."""
    left_out: dict[str, Count]
    splits: dict[str, SplitEntry]

    @model_serializer(mode="wrap")
    def _only_pairs_have_a_scale(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Sets of HR images alone keep the ids that they had before there were pairs.
        fields: dict[str, Any] = handler(self)
        return (
            fields if fields["lr_scale"] is not None else {k: v for k, v in fields.items() if k != "lr_scale"}
        )

    @property
    def manifest_id(self) -> str:
        """sha256 of the canonical JSON, 64 hex digits."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> bytes:
        """The file's text, its id first."""
        fields = {"manifest_id": self.manifest_id} | self.model_dump(mode="json")
        return (json.dumps(fields, indent=1) + "\n").encode()


def parse_manifest(data: bytes, *, source: str) -> Manifest:
    """Read manifest.json's bytes; `source` names the file in the error.

    Raises:
        UserError: not JSON, a field that is missing, unknown or wrong, a newer version, or edited by hand.
    """
    advice = "pack the set again, or `srdist shards index` where the tars are another tool's"
    try:
        fields: Any = parse_json(data)
        if not isinstance(fields, dict):
            raise ValueError(f"expected an object, found {type(fields).__name__}")
        stated = fields.pop("manifest_id", None)
        manifest = Manifest.model_validate(fields)
    except ValidationError as error:
        first = next(problems(error, Manifest))
        raise UserError(f"{source}: {first}: {advice}") from error
    except ValueError as error:
        raise UserError(f"{source}: not a manifest: {error}: {advice}") from error
    if stated != manifest.manifest_id:
        raise UserError(
            f"{source}: was edited or damaged: its manifest_id is {_short(stated)}, its content's is "
            f"{manifest.manifest_id}: {advice}"
        )
    return manifest


def ids_hash(num_samples: int) -> str:
    """The order-free hash of the ids 0..n-1 that an epoch must deliver: the sum of mix64(id) mod 2**64, in hex."""
    total = 0
    for start in range(0, num_samples, _CHUNK):
        ids = np.arange(start, min(start + _CHUNK, num_samples), dtype=np.uint64)
        total += int(mix64(ids).sum(dtype=np.uint64))
    return f"{total % 2**64:016x}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
