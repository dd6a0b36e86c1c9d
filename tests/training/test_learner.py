"""One guarded optimizer step: better weights out, or nothing changed."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch._dynamo.utils import counters

from srdist.config import TrainConfig
from srdist.machine import arithmetic
from srdist.machine.errors import UserError
from srdist.networks.config import SRCNNConfig
from srdist.training.learner import Learner
from tests.networks.tiny import Tiny, TinyConfig

THIN = SRCNNConfig(kernels=(3, 3), widths=(8,))
EVERY_LOSS: list[dict[str, Any]] = [
    {"kind": "mse"},
    {"kind": "l1"},
    {"kind": "charbonnier"},
    {"kind": "frequency", "weight": 0.1},
    {"kind": "gradient", "weight": 0.5},
    {"kind": "ssim", "weight": 0.1},
    {"kind": "ldl"},
]


def learner(**settings: object) -> Learner:
    config = TrainConfig.model_validate({"global_batch": 4, **settings})
    return Learner(THIN.build(seed=0), config, Accelerator(cpu=True), images_per_step=4, lr_shape=(4, 8, 8))


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lr = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=generator)
    hr = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return lr, hr, torch.ones(4)


def everything(trained: Learner) -> dict[str, Tensor]:
    model, optimizer = trained.state()
    return {name: tensor.clone() for name, tensor in (model | optimizer).items()}


def test_a_step_on_a_batch_brings_its_loss_down() -> None:
    trained = learner()
    losses = []
    for step in range(5):
        trained.accumulate(*batch(), last=True)
        losses.append(float(trained.update(step, 1e-3).losses["loss"]))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_a_step_that_is_refused_changes_neither_weights_nor_optimizer_nor_average() -> None:
    trained = learner(ema_decay=0.9)
    for step in range(2):
        trained.accumulate(*batch(step), last=True)
        trained.update(step, 1e-2)
    before = everything(trained)
    lr, hr, weight = batch(2)
    trained.accumulate(lr, hr, weight * torch.inf, last=True)
    assert trained.update(2, 1e-2).refused == 1
    after = everything(trained)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name


def test_an_image_of_weight_nought_has_no_part_in_the_step() -> None:
    lr, hr, weight = batch()
    weight[1] = 0
    other = hr.clone()
    other[1] = 0
    found = []
    for target in (hr, other):
        trained = learner(ema_decay=0.9, losses=EVERY_LOSS)
        trained.accumulate(lr, target, weight, last=True)
        trained.update(0, 1e-3)
        found.append(everything(trained))
    for name, tensor in found[0].items():
        assert torch.equal(found[1][name], tensor), name


def test_each_loss_is_told_by_its_name_and_their_weighted_sum_is_minimized() -> None:
    trained = learner(ema_decay=0.9, losses=EVERY_LOSS)
    trained.accumulate(*batch(), last=True)
    before = trained.network.module.training
    values = trained.update(0, 1e-3).losses
    assert list(values) == ["loss", *(f"loss_{term['kind']}" for term in EVERY_LOSS)]
    weighted = sum(term.get("weight", 1.0) * float(values[f"loss_{term['kind']}"]) for term in EVERY_LOSS)
    assert float(values["loss"]) == pytest.approx(weighted)
    assert before  # what the average makes is made in evaluation mode, and training goes on after it


def test_what_was_gathered_for_an_abandoned_step_is_forgotten() -> None:
    trained, fresh = learner(), learner()
    trained.accumulate(*batch(1), last=True)
    trained.abandon()
    for each in (trained, fresh):
        each.accumulate(*batch(0), last=True)
        each.update(0, 1e-3)
    for name, tensor in everything(fresh).items():
        assert torch.equal(everything(trained)[name], tensor), name


@pytest.mark.parametrize("settings", [{}, {"ema_decay": 0.99}, {"ema_decay": 0.99, "losses": EVERY_LOSS}])
def test_saved_and_loaded_it_goes_on_bit_for_bit(settings: dict[str, object]) -> None:
    whole, first, second = (learner(**settings) for _ in range(3))
    for step in range(4):
        whole.accumulate(*batch(step), last=True)
        whole.update(step, 1e-3)
        part = first if step < 2 else second
        if step == 2:
            second.load_state(*first.state())
        part.accumulate(*batch(step), last=True)
        part.update(step, 1e-3)
    for name, tensor in everything(whole).items():
        assert torch.equal(everything(second)[name], tensor), name
    for name, tensor in whole.weights().items():
        assert torch.equal(second.weights()[name], tensor), name


def test_the_running_average_forgets_its_random_start_quickly_and_then_follows_slowly() -> None:
    trained = learner(ema_decay=0.5)
    start = trained.weights()["conv1.weight"]
    trained.accumulate(*batch(), last=True)
    trained.update(0, 1e-2)
    moved = trained.state()[0]["conv1.weight"]
    # The first step's decay is (1 + 0) / (10 + 0).
    torch.testing.assert_close(trained.weights()["conv1.weight"], torch.lerp(start, moved, 0.9))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_nothing_is_compiled_after_the_first_pass_on_nothing(
    accumulation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is compiled for which shapes is the same whoever writes the code; the inductor takes minutes for its first.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch.compiler.reset()
    counters.clear()
    config = TrainConfig(global_batch=4, compile=True, ema_decay=0.9)
    # Of this tree: torch cannot look through the checks of shapes around srdist's own networks.
    network = TinyConfig(scale=2).build(seed=0)
    trained = Learner(network, config, Accelerator(cpu=True), images_per_step=4, lr_shape=(4, 8, 8))
    compiled = counters["stats"]["unique_graphs"]
    assert compiled == 1
    for step in range(3):
        for i in range(accumulation):
            trained.accumulate(*batch(step), last=i == accumulation - 1)
        trained.update(step, 1e-3)
    assert counters["stats"]["unique_graphs"] == compiled


class _Replayed(torch.autograd.Function):
    """A network's passes as a CUDA graph makes them: output and gradients lie in the same memory each time."""

    @staticmethod
    def forward(ctx: Any, network: nn.Module, memory: dict[str, Tensor], lr: Tensor, *_: Tensor) -> Tensor:
        with torch.enable_grad():
            ctx.sr = network(lr)
        ctx.network, ctx.memory = network, memory
        return memory.setdefault("sr", torch.empty_like(ctx.sr)).copy_(ctx.sr.detach()).view_as(ctx.sr)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        named = dict(ctx.network.named_parameters())
        found = torch.autograd.grad(ctx.sr, list(named.values()), slopes)
        held = [
            ctx.memory.setdefault(name, torch.empty_like(gradient)).copy_(gradient).view_as(gradient)
            for name, gradient in zip(named, found, strict=True)
        ]
        return None, None, None, *held


class _Graph(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.memory = network, dict[str, Tensor]()

    def forward(self, lr: Tensor) -> Tensor:
        made: Tensor = _Replayed.apply(self.network, self.memory, lr, *self.network.parameters())  # type: ignore[no-untyped-call]
        return made


@pytest.mark.parametrize("max_grad_norm", [None, 0.01])
def test_steps_of_graphs_that_write_over_their_memory_are_those_of_a_plain_network(
    max_grad_norm: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[None] = []
    monkeypatch.setattr(torch, "compile", lambda network, **_: _Graph(network))
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(None))
    plain, graphs = (
        learner(ema_decay=0.9, max_grad_norm=max_grad_norm, compile=how) for how in (False, "reduce-overhead")
    )
    graphs._graphs = True  # as on a GPU
    for step, parts in enumerate((1, 2, 3, 2)):
        for trained in (plain, graphs):
            for i in range(parts):
                lr, hr, weight = batch(10 * step + i)
                weight = weight * torch.nan if step == 2 and i == 1 else weight
                trained.accumulate(lr, hr, weight, last=i == parts - 1)
        expected, found = (trained.update(step, 1e-3) for trained in (plain, graphs))
        assert float(found.refused) == float(expected.refused) == (step == 2)
        for name, tensor in everything(plain).items():
            assert torch.equal(everything(graphs)[name], tensor), (step, name)
    assert len(begun) == 1 + 2 + 3 + 2


class _Unpooled(Tiny):
    def forward(self, lr: Tensor) -> Tensor:
        halves, places = F.max_pool2d(lr, 2, return_indices=True)
        return super().forward(lr + F.max_unpool2d(halves, places, [2]))


def test_a_network_that_has_no_deterministic_algorithm_is_refused_where_the_same_bits_are_wanted() -> None:
    config, network = TrainConfig(global_batch=4), _Unpooled(TinyConfig(scale=2), seed=0)
    arithmetic.set_for_training(tf32=False, deterministic=True)
    try:
        with pytest.raises(
            UserError, match=r"^train\.deterministic: found true, but max_unpool.* does not have"
        ):
            Learner(network, config, Accelerator(cpu=True), images_per_step=4, lr_shape=(4, 8, 8))
    finally:
        arithmetic.set_for_training(tf32=False, deterministic=False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["no", "fp16", "bf16"])
def test_on_a_gpu_no_step_waits_for_the_device(precision: str) -> None:
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=precision)
    config = TrainConfig(global_batch=4, ema_decay=0.9, max_grad_norm=1.0)
    trained = Learner(THIN.build(seed=0), config, accelerator, images_per_step=4, lr_shape=(4, 8, 8))
    on_device = [[each.to(accelerator.device) for each in batch(step)] for step in range(4)]
    try:
        for step, (lr, hr, weight) in enumerate(on_device):
            if step == 1:  # the first one makes the optimizer's state
                torch.cuda.set_sync_debug_mode("error")
            trained.accumulate(lr, hr, weight, last=True)
            trained.update(step, 1e-3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        AcceleratorState._reset_state()


def test_an_overflow_of_the_loss_scale_leaves_all_as_it_was_and_halves_it() -> None:
    trained = learner(ema_decay=0.9)
    trained.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    before = trained.network.weights()
    lr, hr, weight = batch()
    trained.accumulate(lr, hr, weight * 1e4, last=True)
    values = trained.update(0, 1e-2)
    assert bool(values.losses["loss"].isfinite())
    assert (float(values.refused), float(values.loss_scale)) == (1, 2.0**126)
    for name, tensor in trained.network.weights().items():
        assert torch.equal(tensor, before[name]), name
    trained.accumulate(lr, hr, weight * 1e-30, last=True)
    assert float(trained.update(1, 1e-2).loss_scale) == 2.0**125
