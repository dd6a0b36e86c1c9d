"""What the upscaling benchmarks enlarge, and the network that they do it with."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

from srdist.networks.config import SRCNNConfig
from srdist.networks.srcnn import SRCNN

SHARED = Path(__file__).parents[2] / "shared" / "data" / "celeba" / "img_align_celeba"


def halves(images: Path | None, count: int) -> list[np.ndarray]:
    """`count` photos at half their size, uint8 [h, w, 3]: 89x109 of CelebA's, or tiles of scikit-image's photos."""
    folder = images or SHARED
    if folder.is_dir():
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))[-count:]
        photos = [Image.open(path).convert("RGB") for path in paths]
        return [np.asarray(p.resize((p.width // 2, p.height // 2), Image.Resampling.BICUBIC)) for p in photos]
    from skimage import data

    photo = np.concatenate([data.astronaut(), data.coffee()[:, :512]])
    place = random.Random(0)
    corners = [
        (place.randrange(photo.shape[0] - 109), place.randrange(photo.shape[1] - 89)) for _ in range(count)
    ]
    return [photo[y : y + 109, x : x + 89] for y, x in corners]


def network() -> SRCNN:
    """The default SRCNN; its weights do not change its speed."""
    return SRCNNConfig().build(seed=0).eval()
