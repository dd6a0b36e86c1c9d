"""What a run tells of itself: how it begins or goes on, and what a validation found; on the console, in metrics.jsonl and to W&B."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from srdist.config import Config
from srdist.quality.scores import Scores
from srdist.runs.log import RunLog
from srdist.runs.wandb_run import WandbRun, mode_for
from srdist.training.beginning import Beginning
from srdist.training.state import RunState


def tell_start(log: RunLog, run: Path, config: Config, state: RunState, facts: dict[str, Any]) -> None:
    """Tell what begins or goes on.

    Args:
        facts: of the machine, the ranks and the set.
    """
    if log.main and (mode := mode_for(config.log.wandb)) is not None:
        log.wandb = WandbRun(
            run,
            run_id=state.wandb_id,
            mode=mode,
            project=config.log.project,
            facts=config.model_dump(mode="json") | facts,
            say=log.warn,
        )
        manifest = Path(config.data.shards) / "manifest.json"
        log.wandb.artifact(manifest, name=f"shards-{facts['manifest_id'][:12]}", kind="dataset")
    changed, step = state.changed, state.counts.step
    log.row("start" if changed is None else "resume", step, **facts, changed=changed or {})
    begin = "starts" if changed is None else f"resumes at step {step}"
    train, world = config.train, facts["world"]
    log.say(
        f"{run} {begin}: {world} rank{'s' if world > 1 else ''} on {facts['device']}, precision {train.precision}, "
        f"global batch {train.global_batch} = {world} x {facts['rank_batch']} x {facts['accumulation']} "
        f"(ranks x batch x accumulation), {facts['train_samples']} training samples, {train.steps} steps"
    )
    for name, (before, after) in (changed or {}).items():
        if name != "train.init_from":
            log.say(f"  {name}: {before} before, {after} now")
        elif after is not None:
            log.say(f"  {name} has no effect: the run goes on from its checkpoint")


def tell_network(log: RunLog, config: Config, beginning: Beginning, *, device: str) -> None:
    """Tell what the network itself has to say, which of its tensors start anew, and which parameters were frozen.

    Args:
        device: its type, as torch calls it.
    """
    network, frozen, anew = beginning
    if config.train.compile == "reduce-overhead" and device != "cuda":
        log.warn("train.compile: reduce-overhead is no more than true here: CUDA graphs need an NVIDIA GPU")
    for note in network.notes() if log.main else []:
        log.warn(note)
    if anew:
        log.say(
            f"  {config.train.init_from} is of another scale than {network.scale}; start anew: {', '.join(anew)}"
        )
    if frozen:
        parameters = list(network.parameters())
        values = sum(parameter.numel() for parameter in parameters if not parameter.requires_grad)
        more = f" and {len(frozen) - 3} more, all in metrics.jsonl" if len(frozen) > 3 else ""
        log.say(
            f"  frozen, as no gradient reaches them: {len(frozen)} of {len(parameters)} parameters "
            f"({values:,} values): {', '.join(frozen[:3])}{more}"
        )


def tell_scores(log: RunLog, step: int, network: Scores, bicubic: Scores, *, best: bool) -> None:
    """Tell what a validation found."""
    beside = {f"bicubic_{name}": value for name, value in bicubic.by_name.items() if name != "sharpness_hr"}
    log.row("val", step, images=network.images, **network.by_name, **beside)
    if math.isnan(network.psnr_y_db):
        log.warn(
            f"validation at step {step}: PSNR-Y is not a number, so these weights cannot be the best "
            "(within the border, as wide as the scale, nothing is left of the images)"
        )
    gain = network.psnr_y_db - bicubic.psnr_y_db
    log.say(
        f"  validation at step {step}: PSNR-Y {network.psnr_y_db:.2f} dB ({gain:+.2f} over bicubic), SSIM-Y "
        f"{network.ssim_y:.4f}, RMSE {network.rmse:.4f}, {network.images} images{', the best so far' if best else ''}"
    )
