"""An architecture of the spandrel library as a network of ours: its bare class, seeded, padded for, under its own names.

The state dict is that of the class alone, so that files of it load in programs built on spandrel.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from srdist.machine.errors import UserError
from srdist.networks import arguments as class_arguments
from srdist.networks.architectures import Architecture, find, library
from srdist.networks.config import SpandrelConfig
from srdist.networks.network import Network
from srdist.networks.readback import unlike

_WINDOWS = ("window_size", "split_size", "split_size_0", "split_size_1", "stripe_size")
"""Arguments that say how large a window is that attention looks at, in LR pixels."""
_FOR_TRAINING = frozenset(
    {"drop_rate", "attn_drop_rate", "drop_path_rate", "drop_path", "dropout", "dropout_rate"}
    | {"use_checkpoint", "use_chk", "fairscale_checkpoint", "offload_to_cpu"}
)
"""Arguments that change no pixel of a trained network."""


class SpandrelNetwork(Network):
    """`config.architecture` with `config.arguments`."""

    halo = None

    def __init__(self, config: SpandrelConfig, *, seed: int | None) -> None:
        super().__init__()
        self.config, self.scale = config, config.scale
        self.model, described = _make(config, seed=0 if seed is None else seed)
        requirements = library().SizeRequirements
        windows = _windows(self.model)
        least = max([described.size_requirements.minimum, *windows])
        self._sizes = requirements(
            least, described.size_requirements.multiple_of, described.size_requirements.square
        )
        self.multiple, self.smallest = self._sizes.multiple_of, self._sizes.minimum
        self.grid = math.lcm(*windows)
        says = {"bf16": described.supports_bfloat16, "fp16": described.supports_half}
        self.precisions = ("fp32", "tf32", *(name for name, works in says.items() if works))

    def forward(self, lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        """Upscale LR images in [0, 1]; the output is near [0, 1] and not clamped."""
        if self.training:
            return self._upscale(lr)
        # Spandrel promises batches of one; SeemoRe, in use, looks at the first image's features for all.
        return torch.cat([self._upscale(image) for image in lr[:, None]])

    def _upscale(self, lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        height, width = lr.shape[-2:]
        beside, below = self._sizes.get_padding(width, height)
        # RCAN writes into what it is given.
        sr: Tensor = self.model(_padded(lr, beside, below) if beside or below else lr.clone())
        return sr[..., : height * self.scale, : width * self.scale]

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The tensors of the class alone, by its names."""
        return self.model.state_dict(*args, **kwargs)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Take over the tensors of the class."""
        return self.model.load_state_dict(state_dict, strict, assign)

    def identity(self) -> dict[str, Any]:
        """What decides its pixels beside its tensors."""
        decisive = {name: value for name, value in self.config.arguments.items() if name not in _FOR_TRAINING}
        return {
            "family": "spandrel",
            "architecture": self.config.architecture,
            "scale": self.scale,
            "arguments": decisive,
        }

    def notes(self) -> list[str]:
        """Whether what is saved of it is the same network to programs built on spandrel."""
        used = self._used(self.state_dict())
        if difference := unlike(used, used.state_dict()):
            return [
                f"programs built on spandrel will not load what is saved of this network as it is: {difference}"
            ]
        return []

    def for_use(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same, with what the network makes of its weights at its first use (SPAN merges branches)."""
        return {name: tensor.clone() for name, tensor in self._used(tensors).state_dict().items()}

    @torch.no_grad()
    def _used(self, tensors: dict[str, Tensor]) -> SpandrelNetwork:
        """Another one with these tensors, once used: this one may be in training."""
        used = SpandrelNetwork(self.config, seed=None).eval()
        used.load_state_dict(tensors)
        used(torch.zeros(1, 3, 16, 16))
        return used


def _make(config: SpandrelConfig, *, seed: int) -> tuple[nn.Module, Any]:
    """The module, its weights decided by `seed` alone, and what spandrel says of it."""
    architecture = find(config.architecture)
    arguments = class_arguments.complete(architecture, scale=config.scale, given=config.arguments)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the classes' own
        torch.default_generator.manual_seed(seed)
        try:
            return _made(architecture, config.scale, arguments)
        except UserError:
            raise
        except Exception as error:  # some forty constructors raise what they like
            raise UserError(_reason(architecture, config, error)) from error


def _made(architecture: Architecture, scale: int, arguments: Mapping[str, Any]) -> tuple[nn.Module, Any]:
    module = architecture.make(scale)(**arguments)
    try:
        described = architecture.reader.load(dict(module.state_dict()))
    except Exception as error:  # as _make
        raise ValueError(f"spandrel could not read the files of it: {error}") from error
    if described.scale != scale:
        raise ValueError(f"upscales by {described.scale}")
    if (described.input_channels, described.output_channels) != (3, 3):
        raise ValueError(
            f"takes {described.input_channels} channels and makes {described.output_channels}, expected RGB: 3 and 3"
        )
    return module, described


def _reason(architecture: Architecture, config: SpandrelConfig, error: Exception) -> str:
    """Why it could not be made: the scale, where it has others; else the arguments."""
    name, scale = architecture.name, config.scale
    others = [other for other in range(2, 9) if other != scale and _can_be_made(architecture, config, other)]
    if others:
        return f"model.scale: found {scale}, {name} with these arguments has {', '.join(map(str, others))}"
    if wrong := class_arguments.wrong_number(architecture.make(scale), config.arguments):
        return wrong
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    hint = (
        "" if config.arguments else " (the defaults of many classes make no usable network: docs/networks.md)"
    )
    return f"model.arguments: {name} cannot be made of them at x{scale}: {reason}{hint}"


def _can_be_made(architecture: Architecture, config: SpandrelConfig, scale: int) -> bool:
    try:
        _made(
            architecture, scale, class_arguments.complete(architecture, scale=scale, given=config.arguments)
        )
    except Exception:  # as above
        return False
    return True


def _windows(module: nn.Module) -> list[int]:
    hyperparameters: Mapping[str, Any] = getattr(module, "hyperparameters", {})
    sizes = [hyperparameters[name] for name in _WINDOWS if name in hyperparameters]
    flat = [side for size in sizes for side in (size if isinstance(size, list | tuple) else [size])]
    return [side for side in flat if isinstance(side, int)]


def _padded(lr: Float[Tensor, "n 3 h w"], beside: int, below: int) -> Float[Tensor, "n 3 H W"]:
    """With columns on the right and rows below: mirrored as far as there is something to mirror, then repeated."""
    height, width = lr.shape[-2:]
    mirrored = min(beside, width - 1), min(below, height - 1)
    lr = F.pad(lr, (0, mirrored[0], 0, mirrored[1]), mode="reflect")
    return F.pad(lr, (0, beside - mirrored[0], 0, below - mirrored[1]), mode="replicate")
