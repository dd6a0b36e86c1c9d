"""What is measured beside PSNR, SSIM and RMSE where it is asked for: each by its name, and what a set of images lacks for it.

Apart from the protocol's three, which every score has: these cost as much again, need LR's kernel, or files of others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from srdist.degradations.config import KernelConfig
from srdist.degradations.section import DegradationSection
from srdist.images.kernels import Kernel
from srdist.machine.errors import UserError
from srdist.quality import detail

MeasureName = Literal["sharpness", "spectrum", "consistency", "lpips", "dists"]
NAMES: tuple[MeasureName, ...] = get_args(MeasureName)
HEADS = {
    "sharpness": "sharp",
    "sharpness_hr": "HR sharp",
    "spectrum_db": "spectrum dB",
    "consistency_db": "consistency dB",
    "lpips": "LPIPS",
    "dists": "DISTS",
}
"""What stands above each column of a table."""
OF_HR = "sharpness_hr"
"""The one that is the same for all methods."""
Of = Callable[[UInt8[Tensor, "n 3 H W"]], Float[Tensor, " n"]]
"""SR to one number an image."""


class Measure(Protocol):
    """One column of the scores. Frozen."""

    @property
    def name(self) -> str:
        """In JSON and CSV."""
        ...

    @property
    def stated(self) -> str:
        """What it is, for the protocol."""
        ...

    def beside(self, lr: UInt8[Tensor, "n 3 h w"], hr: UInt8[Tensor, "n 3 H W"], /) -> Of:
        """The measure of SR of these images; what depends on them alone is computed here, once for all methods."""
        ...


@dataclass(frozen=True, slots=True)
class Sharpness:
    """How sharp SR is, without a look at HR."""

    border: int
    name: str = "sharpness"

    @property
    def stated(self) -> str:
        """What it is."""
        return (
            f"1 - blur of Crete et al. 2007 (scikit-image's blur_effect), of the luma, border {self.border}"
        )

    def beside(self, lr: UInt8[Tensor, "n 3 h w"], hr: UInt8[Tensor, "n 3 H W"], /) -> Of:  # noqa: ARG002
        """SR's own."""
        return lambda sr: detail.sharpness_y(sr, border=self.border)


@dataclass(frozen=True, slots=True)
class SharpnessOfHR:
    """How sharp HR is: the same for all methods, what theirs is to be compared with."""

    border: int
    name: str = OF_HR

    @property
    def stated(self) -> str:
        """What it is."""
        return "the same of HR"

    def beside(self, lr: UInt8[Tensor, "n 3 h w"], hr: UInt8[Tensor, "n 3 H W"], /) -> Of:  # noqa: ARG002
        """HR's own."""
        found = detail.sharpness_y(hr, border=self.border)
        return lambda sr: found  # noqa: ARG005


@dataclass(frozen=True, slots=True)
class Spectrum:
    """How far SR's power spectrum is from HR's."""

    border: int
    name: str = "spectrum_db"

    @property
    def stated(self) -> str:
        """What it is."""
        return (
            f"root mean square of the ratio of SR's and HR's power in {detail.RINGS} rings of 1/{detail.SEGMENT} cycle a pixel "
            f"up to 0.5, dB, of the luma, border {self.border}"
        )

    def beside(self, lr: UInt8[Tensor, "n 3 h w"], hr: UInt8[Tensor, "n 3 H W"], /) -> Of:  # noqa: ARG002
        """The distance to HR's."""
        of_hr = detail.rings_y(hr, border=self.border)
        return lambda sr: detail.spectrum_db(detail.rings_y(sr, border=self.border), of_hr)


@dataclass(frozen=True, slots=True)
class Consistency:
    """Whether SR, reduced again, gives LR."""

    kernel: Kernel
    name: str = "consistency_db"

    @property
    def stated(self) -> str:
        """What it is."""
        return f"PSNR of SR, reduced by {self.kernel}, against LR, dB, of 8-bit RGB, no border"

    def beside(self, lr: UInt8[Tensor, "n 3 h w"], hr: UInt8[Tensor, "n 3 H W"], /) -> Of:  # noqa: ARG002
        """Against this LR."""
        return lambda sr: detail.consistency_db(sr, lr, kernel=self.kernel).to(sr.device)


def parse_names(text: str) -> tuple[MeasureName, ...] | None:
    """The measures of a list like sharpness,spectrum; None for `all`.

    Raises:
        UserError: one has no such name, or stands there twice.
    """
    if text.strip() == "all":
        return None
    given = [part.strip() for part in text.split(",")]
    if "all" in given:
        raise UserError(f"--measures {text}: all stands alone, or some of {','.join(NAMES)}")
    if wrong := [part for part in given if part not in NAMES]:
        raise UserError(
            f"--measures {text}: no measure {wrong[0]!r}, expected all or some of {','.join(NAMES)}"
        )
    if len(set(given)) < len(given):
        raise UserError(f"--measures {text}: one stands there twice")
    return tuple(name for name in NAMES if name in given)


def choose(
    names: Sequence[MeasureName] | None,
    *,
    scale: int,
    kernel: Kernel | None,
    made_by: str,
    device: torch.device,
    warn: Callable[[str], None],
) -> tuple[Measure, ...]:
    """The measures of these names; of all that can be taken here where `names` is None, `warn` being told of the others.

    Args:
        kernel: the one that made LR; None where none alone did, or it is not known.
        made_by: in words, what made LR.

    Raises:
        UserError: one that was named cannot be taken, and why.
    """
    found: list[Measure] = []
    for name in NAMES if names is None else names:
        try:
            found += _made(name, scale=scale, kernel=kernel, made_by=made_by, device=device)
        except UserError as error:
            if names is not None:
                raise
            warn(f"left out: {error}")
    return tuple(found)


def own_measures(made_by: DegradationSection, *, scale: int) -> tuple[Measure, ...]:
    """Those that need nothing of others, for LR that is made so."""
    always = (Sharpness(scale), SharpnessOfHR(scale), Spectrum(scale))
    return (*always, Consistency(made_by.kernel)) if isinstance(made_by, KernelConfig) else always


def _made(
    name: MeasureName, *, scale: int, kernel: Kernel | None, made_by: str, device: torch.device
) -> list[Measure]:
    match name:
        case "sharpness":
            return [Sharpness(scale), SharpnessOfHR(scale)]
        case "spectrum":
            return [Spectrum(scale)]
        case "consistency":
            if kernel is None:
                raise UserError(
                    f"consistency: {made_by}: that SR reduced by a kernel differs from LR would tell nothing"
                )
            return [Consistency(kernel)]
        case "lpips" | "dists":
            from srdist.quality import perceptual

            return [perceptual.load(name, device=device)]


def columns(measures: Sequence[Measure]) -> Mapping[str, str]:
    """What each measure's name stands for."""
    return {measure.name: measure.stated for measure in measures}
