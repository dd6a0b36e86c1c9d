"""How LR is made of HR in an evaluation: by which degradation, and what the user is told where it fits the weights badly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import get_args

from pydantic import ValidationError

from srdist.degradations import config as degradations
from srdist.degradations.config import DegradationConfig, KernelConfig, PairsConfig
from srdist.degradations.section import DegradationSection
from srdist.images.kernels import Kernel
from srdist.machine.errors import UserError
from srdist.machine.redaction import redacted
from srdist.networks.weightfile import WeightsInfo
from srdist.settings.section import problems


def trained_with(info: WeightsInfo, *, source: str) -> DegradationSection | None:
    """The degradation that weights were trained for; None where they do not say.

    Raises:
        UserError: they name one that srdist does not have.
    """
    if info.degradation:
        try:
            return degradations.DEGRADATION.validate_json(info.degradation)
        except ValidationError as error:
            wrong = next(problems(error, DegradationConfig), "not JSON")
            raise UserError(f"{source}: damaged metadata: degradation: {wrong[:300]}") from error
    kernels: tuple[Kernel, ...] = get_args(Kernel)
    return next((KernelConfig(kernel=kernel) for kernel in kernels if kernel == info.kernel), None)


def choose_degradation(
    asked: DegradationSection | None, weights: Mapping[str, WeightsInfo], *, warn: Callable[[str], None]
) -> DegradationSection:
    """What makes LR: what is asked for, else that of the first weights (by name) that know theirs, else bicubic.

    `warn` is told of weights that were trained for another degradation, or do not say for which.
    """
    trained = {name: trained_with(info, source=name) for name, info in weights.items()}
    stated = [section for section in trained.values() if section is not None]
    chosen = asked or (stated[0] if stated else KernelConfig())
    for name, section in trained.items():
        if section is None:
            warn(f"{name} does not say which kernel it was trained for; LR is {_made(chosen)}")
        elif section != chosen:
            own = section.name if section.name != chosen.name else f"{section.name} of other settings"
            warn(f"LR is {_made(chosen)}, but {name} was trained for {own}: expect a worse result")
    return chosen


def of_pairs(hr: str, asked: DegradationSection | None) -> PairsConfig:
    """Where LR of a packed set of pairs comes from: the set.

    Raises:
        UserError: something else is asked for.
    """
    if asked is not None:
        raise UserError(
            f"{redacted(hr)}: a set of pairs, whose LR is there, but LR is to be made by {asked.name}: leave "
            "--kernel and --degrade out"
        )
    return PairsConfig()


def described(section: DegradationSection) -> str:
    """Where LR comes from, as the table says it."""
    return (
        "packed beside HR" if isinstance(section, PairsConfig) else f"made from HR by {section.name}, 8 bit"
    )


def _made(section: DegradationSection) -> str:
    return "that of the pairs" if isinstance(section, PairsConfig) else f"made by {section.name}"


def kernel_of(made_by: DegradationSection | None, info: WeightsInfo | None) -> Kernel | None:
    """The kernel that alone made LR: of files of LR (`made_by` is None) the one that the weights were trained for."""
    if made_by is None and info is not None:
        made_by = trained_with(info, source="weights")
    return made_by.kernel if isinstance(made_by, KernelConfig) else None
