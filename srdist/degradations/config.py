"""Which degradation: the section that `data.degradation` holds, told apart by `kind`, each with its own fields and its own `build`.

Apart from the degradations because a config is read, and a wrong one refused, without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from srdist.degradations.pipelineconfig import BSRGANConfig, SecondOrderConfig
from srdist.degradations.section import DegradationSection
from srdist.degradations.stageconfig import BlurConfig, JPEGConfig, NoiseConfig, ResizeConfig, StageSection
from srdist.images.kernels import Kernel
from srdist.machine.errors import UserError

if TYPE_CHECKING:
    from srdist.degradations.degradation import Degradation
    from srdist.degradations.stage import Stage


class KernelConfig(DegradationSection):
    """Resampled by one kernel, nothing else; `data.kernel` is its short form."""

    kind: Literal["kernel"] = "kernel"
    """Resampled by one kernel, nothing else."""
    kernel: Kernel = "bicubic"
    """Kernel that makes LR from HR; all but nearest are antialiased, as Pillow's are."""

    @property
    def name(self) -> str:
        """The kernel's."""
        return self.kernel

    @property
    def details(self) -> str:
        """Nothing: the name says all."""
        return ""

    def build(self, *, scale: int) -> Degradation:
        """The degradation that makes images smaller by `scale`."""
        from srdist.degradations.kernel import KernelDegradation

        return KernelDegradation(scale, self.kernel)


class PairsConfig(DegradationSection):
    """Not made of HR: each sample of the packed set has its own LR."""

    kind: Literal["pairs"] = "pairs"
    """Not made of HR: each sample of the packed set has its own LR."""

    def build(self, *, scale: int) -> Degradation:
        """There is none.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"degradation pairs: LR at x{scale} is not made of HR, it was made elsewhere: expected a packed set of pairs, "
            "LR images (--lr DIR), or another degradation (--kernel bicubic)"
        )


class BlurDegradation(BlurConfig, DegradationSection):
    """Blurred, then reduced by bicubic."""

    kind: Literal["blur"] = "blur"
    """Blurred, then reduced by bicubic."""

    def build(self, *, scale: int) -> Degradation:
        """The degradation that makes images smaller by `scale`."""
        return _chain([self, KernelConfig()], scale=scale)


class ResizeDegradation(ResizeConfig, DegradationSection):
    """Resized by a factor that is drawn, then to the size of LR by bicubic."""

    kind: Literal["resize"] = "resize"
    """Resized by a factor that is drawn, then to the size of LR by bicubic."""

    def build(self, *, scale: int) -> Degradation:
        """The degradation that makes images smaller by `scale`."""
        return _chain([self, KernelConfig()], scale=scale)


class NoiseDegradation(NoiseConfig, DegradationSection):
    """Reduced by bicubic, then made noisy."""

    kind: Literal["noise"] = "noise"
    """Reduced by bicubic, then made noisy."""

    def build(self, *, scale: int) -> Degradation:
        """The degradation that makes images smaller by `scale`."""
        return _chain([KernelConfig(), self], scale=scale)


class JPEGDegradation(JPEGConfig, DegradationSection):
    """Reduced by bicubic, then through JPEG."""

    kind: Literal["jpeg"] = "jpeg"
    """Reduced by bicubic, then through JPEG."""

    def build(self, *, scale: int) -> Degradation:
        """The degradation that makes images smaller by `scale`."""
        return _chain([KernelConfig(), self], scale=scale)


StageConfig = Annotated[
    KernelConfig | BlurConfig | NoiseConfig | JPEGConfig | ResizeConfig, Field(discriminator="kind")
]


class ChainConfig(DegradationSection):
    """Stages one after the other."""

    kind: Literal["chain"] = "chain"
    """Stages one after the other."""
    stages: Annotated[tuple[StageConfig, ...], Field(strict=False, min_length=1, max_length=50)]
    """The stages in order, one of them `kernel`, which reduces to the size of LR: [{kind: blur}, {kind: kernel}, {kind: jpeg}]."""

    def build(self, *, scale: int) -> Degradation:
        """The degradation that makes images smaller by `scale`."""
        return _chain(self.stages, scale=scale)

    @model_validator(mode="after")
    def _comes_down_to_lr(self) -> Self:
        kinds = [stage.kind for stage in self.stages]
        if kinds.count("kernel") != 1:
            raise ValueError(
                f"stages has {kinds.count('kernel')} of kind kernel, expected one: it makes the LR's size"
            )
        if "resize" in kinds[kinds.index("kernel") :]:
            raise ValueError("stages has a resize after the kernel: LR would not have its size")
        return self


def _chain(sections: Sequence[KernelConfig | StageSection], *, scale: int) -> Degradation:
    from srdist.degradations.chain import Chain, Fixed, named
    from srdist.degradations.resize import ToLR

    margin, unit = 0, 1
    stages: list[tuple[str, Stage]] = []
    for section in sections:
        if isinstance(section, KernelConfig):
            # Lanczos reaches furthest.
            margin, unit = margin + 3 * scale, scale
            stages.append(("kernel", ToLR(((section.kernel, 1.0),))))
        else:
            margin += section.reach * unit
            stages.append((section.kind, section.stage()))
    return Chain(scale, -(-margin // scale) * scale, Fixed(named(stages)))


_Made = (
    KernelConfig
    | JPEGDegradation
    | BlurDegradation
    | NoiseDegradation
    | ResizeDegradation
    | ChainConfig
    | SecondOrderConfig
    | BSRGANConfig
)
_Member = Annotated[_Made, Field(discriminator="kind")]


class MixtureConfig(DegradationSection):
    """One of several degradations for each image."""

    kind: Literal["mixture"] = "mixture"
    """One of several degradations for each image."""
    members: Annotated[tuple[_Member, ...], Field(strict=False, min_length=2, max_length=50)]
    """The degradations, none of them a mixture: [{kind: second_order, preset: web}, {kind: second_order, preset: photo}]."""
    weights: Annotated[tuple[Annotated[float, Field(ge=0, le=1e6)], ...], Field(strict=False)] | None = None
    """How often each is drawn, beside the others; null = all equally."""

    def build(self, *, scale: int) -> Degradation:
        """The degradation that makes images smaller by `scale`."""
        from srdist.degradations.mixture import Mixture

        members = tuple(member.build(scale=scale) for member in self.members)
        return Mixture(scale, members, self.weights or (1.0,) * len(members))

    @model_validator(mode="after")
    def _each_has_a_weight(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.members):
            raise ValueError(
                f"weights has {len(self.weights)} entries, expected {len(self.members)}: one a member"
            )
        if self.weights is not None and not sum(self.weights):
            raise ValueError("weights are all 0: no member could be drawn")
        return self


DegradationConfig = Annotated[_Made | PairsConfig | MixtureConfig, Field(discriminator="kind")]
DEGRADATION: TypeAdapter[DegradationConfig] = TypeAdapter(DegradationConfig)
"""Reads what a weights file says of its degradation."""
