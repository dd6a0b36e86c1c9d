"""recipe.yaml: how a folder of images becomes a packed set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from srdist.machine.errors import UserError
from srdist.settings.section import problems
from srdist.settings.yaml12 import read_yaml
from srdist.shards.tiles import Area, SplitName, Tiles


class Recipe(BaseModel):
    """How a set is packed; unknown fields are errors, and so are fields that the chosen split does not use."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$")]
    """Name of the set, stored in the manifest."""
    only: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Folders and files below the folder of the images that are packed, by their paths; nothing beside them is looked at. null = all."""
    leave_out: dict[str, str] = {}
    """Images that are not packed, by their paths below the folder of the images, with or without their endings; each with the reason."""
    split: Literal["hash", "folders", "file", "areas"] = "hash"
    """hash: by a hash of the key; folders: the first folder of an image's path is its split; file: a list like CelebA's; areas: by areas of the images."""
    fractions: dict[SplitName, Annotated[float, Field(ge=0, le=1)]] = {
        "train": 0.8,
        "val": 0.1,
        "test": 0.1,
    }
    """With split: hash, the share of each split; they sum to 1."""
    hash_of: Literal["key", "name"] = "key"
    """With split: hash, what is hashed: key: the path below the folder of the images without its ending; name: the file's name with its ending."""
    held_out_longest: Annotated[int, Field(ge=1)] | None = None
    """With split: hash, images with a longer side, in pixels, go to train whatever their hash says; null = none do."""
    split_file: str | None = None
    """With split: file, its name: lines of `name 0|1|2` for train, val, test; looked for beside the images, in their parent and in Eval/ of either."""
    areas: tuple[Area, ...] = ()
    """With split: areas, which parts of which images are cut into tiles of which split."""
    tiles: Tiles | None = None
    """Cut images into tiles; null = images are packed whole, in their original bytes."""
    min_side: Annotated[int, Field(ge=1)] = 16
    """Images with a side below this, in pixels, are left out."""
    shard_samples: Annotated[int, Field(ge=1)] = 5000
    """Most samples of a shard."""
    shard_bytes: Annotated[int, Field(ge=1)] = 40_000_000
    """Bytes of images a shard holds, about: a split has at least total / shard_bytes shards."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the one shuffle at pack time."""
    scale: Annotated[int, Field(ge=2, le=8)] | None = None
    """Of pairs (packed with --lr): HR is this many times as large as LR; null = the one scale that all pairs have."""

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        if self.split == "hash" and abs(sum(self.fractions.values()) - 1) > 1e-9:
            raise ValueError(f"fractions sum to {sum(self.fractions.values()):g}, expected 1")
        if self.split != "hash" and "fractions" in self.model_fields_set:
            raise ValueError(f"fractions has no effect with split: {self.split}")
        if (self.split == "file") != (self.split_file is not None):
            raise ValueError("split: file and split_file go together")
        for field in ("hash_of", "held_out_longest"):
            if self.split != "hash" and field in self.model_fields_set:
                raise ValueError(f"{field} has no effect with split: {self.split}")
        if self.held_out_longest is not None and "train" not in self.fractions:
            raise ValueError("held_out_longest needs a split train in fractions")
        for path in (*(self.only or ()), *self.leave_out, *(area.image for area in self.areas)):
            if not _stays_below(path):
                raise ValueError(f"{path!r} is no path below the folder of the images")
        return self

    @model_validator(mode="after")
    def _tiles_fit(self) -> Self:
        if (self.split == "areas") != bool(self.areas) or (self.areas and self.tiles is None):
            raise ValueError("split: areas, areas and tiles go together")
        for number, area in enumerate(self.areas):
            for earlier, other in enumerate(self.areas[:number]):
                if area.overlaps(other):
                    raise ValueError(f"areas {earlier} and {number} of {area.image} overlap")
        if self.tiles is None:
            return self
        height, width = self.tiles.smallest_sides
        for number, area in enumerate(self.areas):
            if area.height < height or area.width < width:
                raise ValueError(
                    f"area {number} of {area.image} is {area.height}x{area.width} (height x width), expected "
                    f"{height}x{width} or more: {_of_tiles(self.tiles)}"
                )
        for field in ("sizes", "longest", "splits"):
            if self.areas and field in self.tiles.model_fields_set:
                raise ValueError(f"tiles.{field} has no effect with split: areas")
        unknown = set(self.tiles.splits or ()) - set(self.fractions)
        if self.split == "hash" and unknown:
            raise ValueError(f"tiles.splits: {', '.join(sorted(unknown))}: no such split in fractions")
        return self

    def cuts(self, split: str) -> bool:
        """Whether the images of a split are cut into tiles."""
        return self.tiles is not None and (self.tiles.splits is None or split in self.tiles.splits)


def _of_tiles(tiles: Tiles) -> str:
    return "a tile (tiles.smallest allows smaller ones)" if tiles.smallest is None else "tiles.smallest"


def _stays_below(path: str) -> bool:
    return (
        path not in ("", ".")
        and not path.startswith("/")
        and ".." not in path.split("/")
        and "\0" not in path
    )


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; every wrong field is named in one UserError."""
    values = read_yaml(path)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {'; '.join(problems(error, Recipe))}") from error
