"""The network against its critic: what the critic makes of a batch, for the network and for itself.

The passes through the critic have one order. For the network's loss it is asked as it stands: in evaluation mode, its
parameters held still, outside of DDP. Then it judges HR and SR in one pass of its own, under DDP; that one alone moves
the vectors of spectral norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from srdist.losses.adversarial import Verdict, critic_loss, feature_distance, network_loss
from srdist.losses.contest import AdversarialConfig, FeatureMatchingConfig
from srdist.losses.critics import Critic
from srdist.losses.section import LossTerm
from srdist.training.trained import Trained

_CHANNELS = ("red", "green", "blue")


class Contest:
    """One critic in training.

    Args:
        matches: whether the critic's layers are a loss of their own.
        critic: under `Trained`; its module is a Critic.
    """

    def __init__(
        self, adversarial: AdversarialConfig, *, matches: bool, critic: Trained, accelerator: Accelerator
    ) -> None:
        self.adversarial, self.matches, self.critic, self.accelerator = (
            adversarial,
            matches,
            critic,
            accelerator,
        )
        assert isinstance(critic.module, Critic)
        self._judge: Critic = critic.module
        # Until the first step begins: in the warm-up both learn.
        self.critic_learns = self.network_learns = True

    @classmethod
    def of(cls, terms: Sequence[LossTerm], critic: Trained, accelerator: Accelerator) -> Self:
        """The contest that `train.losses` asks for."""
        (adversarial,) = (term for term in terms if isinstance(term, AdversarialConfig))
        matches = any(isinstance(term, FeatureMatchingConfig) for term in terms)
        return cls(adversarial, matches=matches, critic=critic, accelerator=accelerator)

    def begin(self, step: int) -> None:
        """Settle who learns in optimizer step `step` (0 is the first)."""
        since = step - self.adversarial.start_step
        self.critic_learns = since >= 0
        self.network_learns = since < 0 or (since + 1) % self.adversarial.critic_steps == 0

    def of_network(
        self, sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"], weight: Float[Tensor, " n"]
    ) -> dict[str, Float[Tensor, " n"]]:
        """The network's losses of each image, by kind; 0 before the critic's first step."""
        if not self.critic_learns:
            nothing = torch.zeros_like(weight)
            return {"adversarial": nothing, **({"feature_matching": nothing} if self.matches else {})}
        form = self.adversarial.form
        with self._as_it_stands():
            with torch.no_grad():
                of_hr = self._judge.features(hr) if self.matches or form == "relativistic" else []
            of_sr = self._judge.features(sr)
        found = {"adversarial": network_loss(form, of_sr[-1], of_hr[-1] if of_hr else None, weight)}
        if self.matches:
            found["feature_matching"] = feature_distance(of_sr[:-1], of_hr[:-1])
        return found

    def of_critic(
        self, sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"], weight: Float[Tensor, " n"]
    ) -> dict[str, Float[Tensor, " n"]]:
        """What the critic's own pass came to, of each image: loss_critic, which it minimizes, and what tells of the contest."""
        names = ["loss_critic", "critic_right_hr", "critic_right_sr"]
        penalized = self.adversarial.r1_weight > 0
        if not self.critic_learns:
            return dict.fromkeys([*names, *(["critic_r1"] if penalized else [])], torch.zeros_like(weight))
        real = hr.detach().clone().requires_grad_(penalized)
        # One pass: DDP would broadcast the vectors of spectral norm before each, and they would move twice.
        of_hr, of_sr = self.critic.forward(torch.cat([real, sr.detach()])).chunk(2)
        verdict: Verdict = critic_loss(self.adversarial.form, of_sr, of_hr, weight)
        found = dict(zip(names, verdict, strict=True))
        if penalized:
            found["critic_r1"] = self._squared_slope(of_hr, real)
            found["loss_critic"] = verdict.loss + self.adversarial.r1_weight / 2 * found["critic_r1"]
        return found

    def learning_rate(self, share: float) -> float:
        """The critic's, where the network's is `share` of its peak."""
        return self.adversarial.learning_rate * share

    def _squared_slope(self, logits: Tensor, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """Of the sum of an image's logits over its pixels."""
        scaler = self.accelerator.scaler
        # In fp16 the slopes would vanish where the gradients of the loss, which is scaled, do not.
        scale = 1.0 if scaler is None else scaler.scale(torch.ones((), device=images.device))
        (slope,) = torch.autograd.grad(logits.float().sum() * scale, images, create_graph=True)
        return (slope / scale).square().flatten(1).sum(1)

    @contextmanager
    def _as_it_stands(self) -> Iterator[None]:
        self._judge.eval().requires_grad_(False)
        try:
            with self.accelerator.autocast():
                yield
        finally:
            self._judge.train().requires_grad_(True)


def colour_drift(
    sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"]
) -> dict[str, Float[Tensor, " n"]]:
    """By how much SR is too bright in each channel, in levels of 255, of each image."""
    drift = 255 * (sr.detach().float() - hr).mean((-2, -1))
    return {f"drift_{name}": drift[:, channel] for channel, name in enumerate(_CHANNELS)}


def critic_of(terms: Sequence[LossTerm], *, seed: int) -> nn.Module | None:
    """The critic that `train.losses` asks for, with its first weights."""
    for term in terms:
        if isinstance(term, AdversarialConfig):
            return term.critic.build(seed=seed)
    return None
