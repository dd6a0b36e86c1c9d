"""What the installed spandrel can build, by name; and which of it is not trained here, with the reason.

Spandrel (https://github.com/chaiNNer-org/spandrel) holds some forty published architectures, each with the classes of its
networks and a reader that tells of a file's tensors what network they are of. A network is made of its bare class: the
call API around it is for inference alone.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from torch import nn

from srdist.machine.errors import UserError

INSTALL = "pip install 'srdist[spandrel]'"

_SCALE_ARGUMENTS = ("upscale", "scale", "upscaling_factor", "up_scale", "upscale_factor")
"""The names that the classes have for the factor; RealCUGAN has a class for each factor instead."""

_NOT_TRAINED = {
    "AuraSR": "it draws noise while it upscales, is a GAN's generator for x4 alone, and its code is CC BY-SA 4.0",
    "FBCNN": "it removes JPEG artefacts, does not upscale, and returns a quality estimate beside the image",
    "GFPGAN": "it restores aligned faces of 512 pixels around a pretrained StyleGAN2 and draws noise while it does",
    "IPT": "it takes patches of one size only, with values of 0 to 255, through a call API of its own",
    "LaMa": "it fills masked regions: it takes a mask beside the image, and does not upscale",
    "MMRealSR": "it returns the degradation that it estimates beside the image",
    "RestoreFormer": "it restores aligned faces of 512 pixels by a codebook whose losses it returns beside the image",
    "SAFMNBCIE": "it does not upscale, whatever its upscaling_factor: it takes the image apart first",
}

_RESTRICTED = {
    "AdaCode": "non-commercial",
    "CodeFormer": "S-Lab's, non-commercial",
    "DDColor": "non-commercial in parts",
    "FeMaSR": "non-commercial",
    "M3SNet": "for academic use",
    "MAT": "non-commercial",
    "MIRNet2": "for academic use",
    "MPRNet": "for academic use",
    "Restormer": "for academic use",
    "SRFormer": "non-commercial",
}
"""What stands in spandrel_extra_arches and not in spandrel, with the licence that is why."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One that spandrel has."""

    name: str
    """As `model.architecture` has it."""
    reader: Any
    """Spandrel's: `reader.load(state dict)` is a descriptor of the network that the tensors are of."""
    classes: Mapping[int, type[nn.Module]]
    """Where each factor has its class, by factor; else one class, at 0."""
    scale_argument: str | None
    """What the class calls the factor; None where it has none."""

    @property
    def why_not(self) -> str | None:
        """Why it is not trained here; None where it can be."""
        if reason := _NOT_TRAINED.get(self.name):
            return reason
        upscales = self.scale_argument is not None or 0 not in self.classes
        return None if upscales else "it restores images and does not upscale them"

    def make(self, scale: int) -> type[nn.Module]:
        """The class for this factor.

        Raises:
            UserError: it has none.
        """
        if 0 in self.classes:
            return self.classes[0]
        if scale not in self.classes:
            has = ", ".join(map(str, sorted(self.classes)))
            raise UserError(f"model.scale: found {scale}, {self.name} has {has}")
        return self.classes[scale]


def library() -> ModuleType:
    """The spandrel module.

    Raises:
        UserError: it is not installed, or does not load.
    """
    try:
        return importlib.import_module("spandrel")
    except (ImportError, RuntimeError) as error:
        # RuntimeError: a torchvision that was built for another torch.
        missing = INSTALL if isinstance(error, ModuleNotFoundError) else f"{INSTALL} ({error})"
        raise UserError(f"spandrel is needed: {missing}") from error


def architectures() -> dict[str, Architecture]:
    """All that the installed spandrel has, by name: one a class, and one for classes that differ in their factor."""
    readers = (support.architecture for support in library().MAIN_REGISTRY.architectures())
    return {architecture.name: architecture for reader in readers for architecture in _of(reader)}


def find(name: str) -> Architecture:
    """The architecture of this name, if it is trained here.

    Raises:
        UserError: spandrel is not installed, has none of this name, or it is not trained here.
    """
    try:
        by_name = architectures()
    except UserError as error:
        raise UserError(f"model.family: {error}") from error
    if name in by_name:
        if reason := by_name[name].why_not:
            raise UserError(f"model.architecture: {name} is not trained here: {reason}")
        return by_name[name]
    if licence := _RESTRICTED.get(name):
        raise UserError(
            f"model.architecture: {name} is in spandrel_extra_arches, for its licence ({licence}), and not in spandrel; "
            "srdist trains what is in spandrel"
        )
    raise UserError(f"model.architecture: found {name!r}{_nearest(name, by_name)}")


def _nearest(name: str, by_name: Mapping[str, Architecture]) -> str:
    trained = {
        architecture.name: architecture for architecture in by_name.values() if architecture.why_not is None
    }
    # Written otherwise, or by the class's own name: span, real_esrgan's RRDBNet.
    meant = {_plain(architecture.name): architecture.name for architecture in trained.values()}
    meant |= {
        _plain(make.__name__): architecture.name
        for architecture in trained.values()
        for make in architecture.classes.values()
    }
    close = get_close_matches(_plain(name), meant, n=1)
    return (
        f", did you mean {meant[close[0]]}?"
        if close
        else f", the architectures are: {', '.join(sorted(trained))}"
    )


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.casefold())


def _of(reader: Any) -> Iterator[Architecture]:
    module = importlib.import_module(type(reader).__module__)
    classes: dict[str, type[nn.Module]] = {
        name: value
        for name in module.__all__
        if inspect.isclass(value := getattr(module, name)) and issubclass(value, nn.Module)
    }
    by_scale = {
        int(factor[1]): make for name, make in classes.items() if (factor := re.search(r"(\d)x$", name))
    }
    if by_scale:
        yield Architecture(reader.id, reader, by_scale, None)
    for name, make in classes.items():
        if make in by_scale.values():
            continue
        by_name = inspect.signature(make).parameters
        argument = next((one for one in _SCALE_ARGUMENTS if one in by_name), None)
        factor = re.search(r"(\d)x", name)
        alone = argument is None and factor is not None
        yield Architecture(name, reader, {int(factor[1]) if alone and factor else 0: make}, argument)
