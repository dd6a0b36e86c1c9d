"""recipe.yaml: how a folder of images becomes a packed set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from srdist.machine.errors import UserError
from srdist.settings.section import problems
from srdist.settings.yaml12 import read_yaml


class Recipe(BaseModel):
    """How a set is packed; unknown fields are errors, and so are fields that the chosen split does not use."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$")]
    """Name of the set, stored in the manifest."""
    split: Literal["hash", "folders", "file"] = "hash"
    """hash: by a hash of the key; folders: the first folder of an image's path is its split; file: a list like CelebA's."""
    fractions: dict[Annotated[str, Field(pattern="^[A-Za-z0-9_]+$")], Annotated[float, Field(ge=0, le=1)]] = {
        "train": 0.8,
        "val": 0.1,
        "test": 0.1,
    }
    """With split: hash, the share of each split; they sum to 1."""
    split_file: str | None = None
    """With split: file, its name: lines of `name 0|1|2` for train, val, test; looked for beside the images, in their parent and in Eval/ of either."""
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
        return self


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; every wrong field is named in one UserError."""
    values = read_yaml(path)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {'; '.join(problems(error, Recipe))}") from error
