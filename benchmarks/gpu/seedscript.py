"""The seed's own training, as its script did it, on the same device: what `20x the seed` is measured against."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.contestants import SeedDataset
from benchmarks.gpu.material import Material

_BATCH = 16
_IMAGES = 640


def seed_script(material: Material) -> dict[str, Any]:
    """Images a second of the seed's loop.

    A default DataLoader over Pillow's images, its network in NCHW and float32, Adam unfused, `loss.item()` each step.
    """
    folder = material.folder / "seed"
    _write_images(material, folder)
    loader = DataLoader(SeedDataset(folder), batch_size=_BATCH, shuffle=True, drop_last=True)
    layers = [
        nn.Conv2d(3, 128, 3, padding=1),
        nn.Conv2d(128, 64, 3, padding=1),
        nn.Conv2d(64, 3, 3, padding=1),
    ]
    network = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU()))).to(material.device)
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    count, begin = 0, 0.0
    while not begin or time.perf_counter() - begin < material.sizes.seconds:
        for lr, hr in loader:
            lr, hr = lr.to(material.device), hr.to(material.device)
            adam.zero_grad()
            loss = F.mse_loss(network(lr), hr)
            torch.autograd.backward(loss)
            adam.step()
            loss.item()
            if not begin:  # the first batch is not counted: it starts the device's libraries
                begin = time.perf_counter()
                continue
            count += _BATCH
            if time.perf_counter() - begin >= material.sizes.seconds:
                break
    rate = count / (time.perf_counter() - begin)
    print(f"the seed's script: {rate:,.1f} images/s, batch {_BATCH}, float32")
    return {"images_per_s": rate, "batch": _BATCH}


def _write_images(material: Material, folder: Path) -> None:
    folder.mkdir()
    for number, data in enumerate(material.train_images(min(_IMAGES, material.sizes.made_faces))):
        (folder / f"{number:04d}.jpg").write_bytes(data)
