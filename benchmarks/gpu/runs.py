"""Real trainings as processes: how long they take to begin, what they do a second, and how long they wait for data."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from benchmarks.gpu.learners import SEED, seeds
from benchmarks.gpu.material import Material
from benchmarks.runs import Launch
from srdist import config as configs
from srdist.machine.cores import usable_cores

SEED_ON_FRAMES = "the seed's network, whole frames"
_LINES = 5
"""Lines of the log in a training; the first is not counted."""


def beginning(material: Material) -> dict[str, Any]:
    """Seconds from the command to its first step, of the seed's network on whole frames."""
    middle = material.sizes.batches[len(material.sizes.batches) // 2]
    run = _training(material, "beginning", steps=2, batch=middle, log_every=1)
    begin = time.perf_counter()
    with run.going() as process:
        run.wait_for_step(1, process)
        seconds = time.perf_counter() - begin
        process.communicate()
    print(f"from the command to the first step: {seconds:.1f} s")
    return {"first_step_s": seconds}


def training(material: Material) -> dict[str, Any]:
    """Images a second and the share of waiting, of the seed's network on whole frames and of the middle one on patches."""
    sizes = material.sizes
    middle = material.folder / "middle.yaml"
    config = seeds().model_copy(update={"model": sizes.middle})
    middle.write_text(configs.dump(config))
    on_patches = (f"data.hr_patch={sizes.patch}", "data.patches_per_image=8")
    kinds: dict[str, tuple[str, int, tuple[str, ...]]] = {
        SEED_ON_FRAMES: (SEED, sizes.batches[len(sizes.batches) // 2], ()),
        "the middle-sized network, patches": (
            str(middle),
            sizes.patch_batches[len(sizes.patch_batches) // 2],
            on_patches,
        ),
    }
    rows = {}
    for number, (name, (file, batch, settings)) in enumerate(kinds.items()):
        run = _training(
            material,
            f"training{number}",
            config=file,
            steps=sizes.run_steps,
            batch=batch,
            log_every=max(1, sizes.run_steps // _LINES),
            settings=settings,
        )
        run.finish()
        lines = run.rows("train")[1:]
        rows[name] = {
            "batch": batch,
            "images_per_s": median(line["images_per_s"] for line in lines),
            "data_wait_share": median(line["data_wait_share"] for line in lines),
            "memory_mb": lines[-1]["memory_mb"],
        }
        print(
            f"training {name}, batch {batch}, bf16: {rows[name]['images_per_s']:,.0f} images/s, waited "
            f"{rows[name]['data_wait_share']:.1%} for data with {usable_cores()} cores"
        )
    return rows


def _training(
    material: Material,
    name: str,
    *,
    steps: int,
    batch: int,
    log_every: int,
    config: str = SEED,
    settings: tuple[str, ...] = (),
) -> Launch:
    on_device = {"ACCELERATE_USE_CPU": "false"} if material.device.type == "cuda" else {}
    given = (
        "train.precision=bf16",
        f"train.steps={steps}",
        f"train.global_batch={batch}",
        f"train.log_every={log_every}",
        "train.val_images=4",
        f"data.workers={max(1, usable_cores() - 1)}",
        *settings,
    )
    return Launch(
        material.shards,
        material.folder / name,
        settings=given,
        config=config,
        thin=(),
        env=on_device,
    )
