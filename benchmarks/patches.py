"""Patches a second for several patches an image: K = 1, 4, 16, from small images, from photos of 2 megapixels, and from tiles of those.

Rows of `python -m benchmarks.loader`; alone: `python -m benchmarks.loader --part patches`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from srdist.shards.reader import ShardIndex
from srdist.stream.config import DataConfig
from srdist.stream.pairs import TrainStream
from srdist.stream.share import Share

BATCH = 64
SIDES = (48, 96)
PATCHES_PER_IMAGE = (1, 4, 16)
_WARM_UP = 3


RECIPES = {
    "1632x1224": "name: photos\nfractions: {train: 1.0}\n",
    "in tiles of 160x160": "name: tiles\nfractions: {train: 1.0}\ntiles: {height: 160, width: 160, stride: 112}\n",
}


def pack_photos(work: Path) -> dict[str, Path]:
    """Pack 64 JPEGs of 1632x1224, windows of scikit-image's four photos, enlarged: whole, and in tiles; the folders of the sets."""
    from skimage import data

    photos = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    folder = work / "photos"
    folder.mkdir()
    for number in range(BATCH):
        photo = Image.fromarray(photos[number % 4])
        left, top = number // 4 % 4 * 12, number // 16 * 12
        window = photo.crop((left, top, left + 340, top + 255))
        window.resize((1632, 1224), Image.Resampling.LANCZOS).save(folder / f"{number:02d}.jpg", quality=90)
    found = {}
    for number, (name, recipe) in enumerate(RECIPES.items()):
        (work / "photos.yaml").write_text(recipe)
        found[name] = work / f"photo_shards_{number}"
        command = ["-m", "srdist", "pack", "photos.yaml", "--images", "photos", "--out", str(found[name])]
        subprocess.run([sys.executable, *command], cwd=work, check=True)
    return found


def measure(shards: Path, *, side: int, patches: int, workers: int, seconds: float) -> float:
    """Patches a second of x2 training batches from a set's split `train`."""
    data = DataConfig(hr_patch=side, patches_per_image=patches, workers=workers)
    index = ShardIndex.open(str(shards), "train")
    with TrainStream(index, data, Share(), scale=2, seed=0, global_batch=BATCH, rank_batch=BATCH) as stream:
        pairs = iter(stream)
        for _ in range(_WARM_UP):
            next(pairs)
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            count += len(next(pairs).ids)
        return count / (time.perf_counter() - start)


def rows(
    sets: dict[str, Path], *, rounds: int, workers: tuple[int, ...], seconds: float
) -> list[dict[str, Any]]:
    """One row for each set, side and number of workers, the numbers of patches alternated in each round."""
    found = []
    for name, shards in sets.items():
        for side in SIDES:
            for count in workers:
                rates: dict[int, list[float]] = {patches: [] for patches in PATCHES_PER_IMAGE}
                for _ in range(rounds):
                    for patches, measured in rates.items():
                        measured.append(
                            measure(shards, side=side, patches=patches, workers=count, seconds=seconds)
                        )
                found.append({"images": name, "side": side, "workers": count, "patches_per_s": rates})
    return found


def print_rows(measured: list[dict[str, Any]]) -> None:
    """The table on standard output."""
    print(f"\npatches a second at x2, batches of {BATCH}: median (lowest to highest)\n")
    print(f"| images | side | workers | {' | '.join(f'K = {patches}' for patches in PATCHES_PER_IMAGE)} |")
    print("|---" * (3 + len(PATCHES_PER_IMAGE)) + "|")
    for row in measured:
        cells = [
            f"{median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"
            for rates in row["patches_per_s"].values()
        ]
        print(f"| {row['images']} | {row['side']} | {row['workers']} | {' | '.join(cells)} |")
