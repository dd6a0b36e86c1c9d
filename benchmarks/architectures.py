"""Which of spandrel's architectures keep to the contract of docs/networks.md, each in a tiny form.

Usage: python -m benchmarks.architectures [--json FILE] [--only NAME ...]

For each: is it made, and of its seed alone; does it learn on two ranks, and go on bit for bit after it was put away and
taken up again, in fp32 and in bf16; is an image upscaled in tiles like the whole; does spandrel load what is saved of it as
the same network. Prints the table of docs/networks.md. Exit code 1 where anything fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch import Tensor

from benchmarks.ownfolders import working_folder
from benchmarks.processes import BIN, ROOT, clean_environment
from benchmarks.standin import environment, stand_in
from srdist.config import Config
from srdist.machine import ranks
from srdist.machine.device import mixed_precision
from srdist.machine.errors import UserError
from srdist.networks.architectures import architectures
from srdist.networks.config import SpandrelConfig
from srdist.networks.readback import unlike
from srdist.networks.spandrelnetwork import SpandrelNetwork
from srdist.networks.tilednetwork import TiledNetwork
from srdist.training.beginning import begin_network
from srdist.training.draws import seed_draws
from srdist.training.learner import Learner

WINDOWED = {"img_size": 16, "embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8}
TINY: dict[str, dict[str, Any]] = {
    "ATD": WINDOWED | {"num_tokens": 8, "reducted_dim": 4, "upsampler": "pixelshuffledirect"},
    "CRAFT": {"embed_dim": 12, "depths": [1], "num_heads": [2]},
    "Compact": {"num_feat": 8, "num_conv": 2},
    "DAT": {"img_size": 16, "embed_dim": 32, "depth": [2], "num_heads": [4], "split_size": [4, 8]},
    "DCTLSA": {"nf": 10, "num_modules": 6, "num_head": 5},
    "DITN": {"dim": 12, "ITL_blocks": 1, "SAL_blocks": 1},
    "DRCT": WINDOWED | {"depths": [1], "upsampler": "pixelshuffle", "gc": 4},
    "ESRGAN": {"num_filters": 8, "num_blocks": 1},
    "FDAT": {"embed_dim": 16, "num_groups": 1, "depth_per_group": 2, "num_heads": 2},
    "GRL": {
        "img_size": 64,
        "embed_dim": 32,
        "depths": [2],
        "num_heads_window": [2],
        "num_heads_stripe": [2],
        "upsampler": "pixelshuffledirect",
        # All but the head leaves no trace in a file; spandrel takes an SR network's to be these.
        "window_size": 32,
        "stripe_size": [64, 64],
        "stripe_shift": True,
        "anchor_window_down_factor": 4,
    },
    "HAT": WINDOWED | {"num_feat": 8, "squeeze_factor": 4},
    "MoESR": {"dim": 8, "n_blocks": 1, "n_block": 1, "expansion_factor": 2.625},
    "MoSR": {"n_block": 2, "dim": 8},
    "OmniSR": {"num_feat": 8, "res_num": 1},
    "PLKSR": {"dim": 8, "n_blocks": 2, "kernel_size": 5},
    "RCAN": {"n_resgroups": 1, "n_resblocks": 2, "n_feats": 8, "reduction": 4},
    "RGT": {"img_size": 16, "embed_dim": 12, "depth": [2], "num_heads": [2]},
    "RealCUGAN": {},
    "RealPLKSR": {"dim": 8, "n_blocks": 2, "kernel_size": 5},
    "SAFMN": {"dim": 8, "n_blocks": 1},
    "SPAN": {"feature_channels": 8},
    "SeemoRe": {"num_experts": 2, "num_layers": 2, "embedding_dim": 8},
    "SwiftSRGAN": {"num_channels": 8, "num_blocks": 2},
    "Swin2SR": WINDOWED | {"upsampler": "pixelshuffledirect"},
    "SwinIR": WINDOWED | {"upsampler": "pixelshuffledirect"},
    "UpCunet2x_fast": {},
}
"""Arguments that make a network of some thousand weights."""
TILE_LEVELS = 10.0
"""8-bit levels by which tiles of an untrained network may differ from the whole, on average: more would be no image like it."""
STEPS = 2
RANKS = 2
PASSED = "yes"


@dataclass(frozen=True)
class Verdict:
    """What one architecture does; each part is PASSED, or what went wrong."""

    made: str
    seeded: str
    fp32: str
    """Learns on two ranks in fp32, and goes on bit for bit."""
    bf16: str
    tiles: str
    read_back: str
    frozen: int
    """Parameters that no gradient reaches."""
    draws: bool
    """Whether it draws by chance as it is trained."""
    smallest: int
    """Least LR side."""
    multiple: int


def section(name: str, scale: int = 2) -> SpandrelConfig:
    """The tiny form of an architecture."""
    return SpandrelConfig(architecture=name, arguments=TINY[name], scale=scale)


def run_config(name: str, *, precision: str = "fp32") -> Config:
    """A run of it on patches as small as it takes."""
    network = section(name)
    patch = network.scale * max(16, network.build(seed=None).smallest)
    train = {"global_batch": 2 * RANKS, "precision": precision, "ema_decay": 0.9, "seed": 3}
    return Config.model_validate({"data": {"hr_patch": patch}, "model": network.model_dump(), "train": train})


def check_seed(name: str) -> None:
    """The seed alone decides the weights, and nothing is taken from the global generator."""
    torch.manual_seed(1)
    before, first = torch.get_rng_state(), section(name).build(seed=5).digest()
    assert torch.equal(before, torch.get_rng_state()), "takes from the global generator"
    torch.manual_seed(2)
    assert section(name).build(seed=5).digest() == first, "the seed does not decide the weights"
    assert section(name).build(seed=6).digest() != first, "another seed makes the same weights"


def check_tiles(name: str) -> None:
    """Any size comes out upscaled; an image in tiles is like the whole, though these networks may look at all of it."""
    network = section(name).build(seed=5).eval()
    for height, width in ((1, 1), (5, 7), (33, 18)):
        with torch.inference_mode():
            shape = network(torch.rand(2, 3, height, width)).shape
        assert shape == (2, 3, 2 * height, 2 * width), f"makes {tuple(shape)} of {height}x{width}"
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    whole, tiled = (
        TiledNetwork(network, device=torch.device("cpu"), tile=tile).upscale(image).astype(int)
        for tile in (500, 48)
    )
    apart = float(np.abs(whole - tiled).mean())
    assert apart < TILE_LEVELS, f"tiles differ from the whole by {apart:.1f} levels on average"


def check_read_back(name: str) -> None:
    """Spandrel loads what is saved for use as the same network."""
    network = section(name).build(seed=5).eval()
    used = section(name).build(seed=None).eval()
    used.load_state_dict(network.for_use(network.state_dict()))
    difference = unlike(used, used.state_dict())
    assert difference is None, difference


def check_training(name: str, accelerator: Accelerator, *, precision: Literal["fp32", "bf16"]) -> None:
    """It learns on these ranks, which all use the same weights, and put away halfway and taken up again it ends in the same bits."""
    config = run_config(name, precision=precision)
    whole, losses, used = _trained(config, accelerator, 0, STEPS, None)
    half, _, _ = _trained(config, accelerator, 0, STEPS // 2, None)
    again, _, _ = _trained(config, accelerator, STEPS // 2, STEPS, half)
    assert np.isfinite(losses).all(), f"its loss is {losses}"
    assert len(used) == 1, "the ranks would validate different weights"
    assert whole.keys() == again.keys()
    other = [key for key, tensor in whole.items() if not torch.equal(tensor, again[key])]
    assert not other, f"resumed, it differs in {len(other)} tensors, as in {other[0]}"
    network = begin_network(config, rank_batch=2).network
    left = [
        name for name, one in network.named_parameters() if one.requires_grad and f"{name}/step" not in whole
    ]
    assert not left, f"{len(left)} parameters are not trained, as {left[0]}"


def _trained(
    config: Config, accelerator: Accelerator, start: int, stop: int, state: dict[str, Tensor] | None
) -> tuple[dict[str, Tensor], list[float], set[str]]:
    """The state, the losses, and the digests of the weights for use on all ranks."""
    network = begin_network(config, rank_batch=2).network
    learner = Learner(
        network,
        config.train,
        accelerator,
        images_per_step=2,
        lr_shape=(2, *_batch(config, 0, 0)[0].shape[2:]),
    )
    if state is not None:
        learner.load_state(
            *({key: t for key, t in state.items() if ("/" in key) == of} for of in (False, True))
        )
    losses = []
    for step in range(start, stop):
        lr, hr = _batch(config, step, accelerator.process_index)
        seed_draws(config.train.seed, step=step, rank=accelerator.process_index, part=0)
        learner.accumulate(lr, hr, torch.ones(2), last=True)
        losses.append(float(learner.update(step, 1e-3).losses["loss"]))
    model, optimizer = learner.state()
    for_use = config.model.for_use.build(seed=None)
    for_use.load_state_dict(learner.common_weights())
    return model | optimizer, losses, set(ranks.gather_items([for_use.digest()]))


def _batch(config: Config, step: int, rank: int) -> tuple[Tensor, Tensor]:
    patch, scale = config.data.hr_patch or 0, config.model.scale
    generator = torch.Generator().manual_seed(100 * step + rank)
    return tuple(  # type: ignore[return-value]
        torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=generator)
        for side in (patch // scale, patch)
    )


def outcome(check: Callable[[], object]) -> str:
    """PASSED, or what went wrong in one line."""
    try:
        check()
    except (AssertionError, RuntimeError, UserError, ValueError) as error:
        return " ".join(str(error).split())[:200] or type(error).__name__
    return PASSED


def _as_rank(names: Sequence[str], precision: Literal["fp32", "bf16"], out: Path) -> None:
    """One of the ranks: trains all of them, one after the other."""
    torch.set_num_threads(1)
    patience = InitProcessGroupKwargs(timeout=timedelta(seconds=300))
    accelerator = Accelerator(
        cpu=True, mixed_precision=mixed_precision(precision), kwargs_handlers=[patience]
    )
    assert accelerator.num_processes == RANKS
    told = {}
    for name in names:
        told[name] = outcome(lambda name=name: check_training(name, accelerator, precision=precision))  # type: ignore[misc]
    if accelerator.is_main_process:
        out.write_text(json.dumps(told))
    accelerator.end_training()


def on_two_ranks(
    names: Sequence[str], precision: str, folder: Path, *, timeout_s: float = 1800
) -> dict[str, str]:
    """What check_training says of each under `accelerate launch`."""
    out = folder / f"{precision}.json"
    command = [
        BIN / "accelerate",
        "launch",
        "--config_file",
        "launch/cpu2.yaml",
        "--num_processes",
        str(RANKS),
    ]
    command += ["--main_process_port", "0", "-m", "benchmarks.architectures"]
    command += ["--as-rank", precision, "--json", out, "--only", *names]
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=clean_environment() | {"ACCELERATE_USE_CPU": "true"} | environment(folder / "standin"),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the ranks ended with {done.returncode}: {done.stderr[-2000:]}")
    told: dict[str, str] = json.loads(out.read_text())
    return told


def verdicts(names: Sequence[str], folder: Path) -> Iterator[tuple[str, Verdict]]:
    """Each architecture's."""
    made = {name: outcome(lambda name=name: section(name).build(seed=0)) for name in names}  # type: ignore[misc]
    good = [name for name in names if made[name] == PASSED]
    trained = {precision: on_two_ranks(good, precision, folder) for precision in ("fp32", "bf16")}
    for name in names:
        if name not in good:
            yield name, Verdict(made[name], "", "", "", "", "", 0, False, 0, 0)
            continue
        network, frozen, _ = begin_network(run_config(name), rank_batch=2)
        assert isinstance(network, SpandrelNetwork)
        yield (
            name,
            Verdict(
                PASSED,
                *(outcome(lambda name=name: check_seed(name)),),  # type: ignore[misc]
                trained["fp32"][name],
                trained["bf16"][name],
                outcome(lambda name=name: check_tiles(name)),  # type: ignore[misc]
                outcome(lambda name=name: check_read_back(name)),  # type: ignore[misc]
                len(frozen),
                _draws(network, side=max(16, network.smallest)),
                network.smallest,
                network.multiple,
            ),
        )


def _draws(network: SpandrelNetwork, *, side: int) -> bool:
    before = torch.get_rng_state()
    with torch.no_grad():
        network.train()(torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)))
    return not torch.equal(before, torch.get_rng_state())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", default=list(TINY), choices=list(TINY), metavar="NAME")
    parser.add_argument("--as-rank", choices=("fp32", "bf16"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.modules.update(stand_in())
    if options.as_rank:
        _as_rank(options.only, options.as_rank, options.json)
        return 0
    torch.set_num_threads(1)
    begin = time.monotonic()
    with working_folder() as folder:
        found = dict(verdicts(options.only, folder))
    print(_table(found))
    print(f"\n{len(found)} architectures, {time.monotonic() - begin:.0f} s")
    if options.json:
        options.json.write_text(json.dumps({name: asdict(one) for name, one in found.items()}, indent=2))
    return int(any(part != PASSED for one in found.values() for part in _parts(one)))


def _parts(one: Verdict) -> list[str]:
    return [one.made, one.seeded, one.fp32, one.bf16, one.tiles, one.read_back]


def _table(found: dict[str, Verdict]) -> str:
    heads = "made | seeded | two ranks, resumed bit for bit | the same in bf16 | tiles | loads in spandrel"
    lines = [
        f"| architecture | {heads} | frozen | draws | least LR side | multiple of |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        rest = [
            one.frozen or "",
            "yes" if one.draws else "",
            one.smallest or "",
            one.multiple if one.multiple > 1 else "",
        ]
        lines.append(f"| {' | '.join([name, *_parts(one), *map(str, rest)])} |")
    refused = [
        f"- {name}: {other.why_not}." for name, other in sorted(architectures().items()) if other.why_not
    ]
    lines += ["", "Not trained here:", "", *refused]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
