"""A network for upscaling, whoever made it: our own weights, or a file that the spandrel library knows.

In goes what `--weights` names; out comes a network on RGB in [0, 1]. Spandrel
(https://github.com/chaiNNer-org/spandrel) recognizes some forty published architectures by their tensors and reads
pickles with an unpickler that makes nothing but tensors.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from srdist.machine.errors import UserError
from srdist.networks.architectures import library
from srdist.networks.config import NetworkSection
from srdist.networks.network import Network
from srdist.networks.statedict import ForeignWeightsError
from srdist.networks.weightfile import compare_shapes, find_weights, load_weights, shapes_of


def load_network(name: str | Path) -> Network:
    """Load what a path, run folder or the name of bundled weights means; files that are not ours through spandrel.

    Raises:
        UserError: no such file, damaged, of no known architecture, or spandrel would be needed and is not installed.
    """
    path = find_weights(name)
    try:
        return load_weights(path)[0]
    except ForeignWeightsError as error:
        if path.suffix not in (".pth", ".pt", ".ckpt", ".safetensors"):
            raise
        return _foreign(path, error)


def start_from(network: Network, section: NetworkSection, name: str) -> list[str]:
    """Begin with the weights that `name` means (see load_network) in a network made of `section`.

    The file may be of another scale: what has the same shape at both is taken, and the rest stays as it is.

    Returns:
        the names of the tensors that stayed as they were, sorted; none where the scales are equal.

    Raises:
        UserError: a missing, extra or misshapen tensor, by name.
    """
    loaded = load_network(name)
    tensors = (loaded.model if isinstance(loaded, _Foreign) else loaded).state_dict()
    of_its_scale = section.for_use.model_copy(update={"scale": loaded.scale})
    expected = of_its_scale.build(seed=None).state_dict()
    try:
        compare_shapes(shapes_of(tensors), shapes_of(expected), source=f"train.init_from: {name}")
    except UserError as error:
        of, trained = (one.identity() for one in (loaded, network))
        if _called(of) == _called(trained):
            raise
        raise UserError(
            f"{error}: the file holds {_called(of)}, this run trains {_called(trained)}"
        ) from error
    own = network.for_use(network.state_dict())
    taken = {key: tensor for key, tensor in tensors.items() if key in own and own[key].shape == tensor.shape}
    network.load_state_dict(network.from_use({**own, **taken}))
    return sorted(own.keys() - taken.keys())


def _called(identity: dict[str, Any]) -> str:
    architecture = f", {identity['architecture']}" if "architecture" in identity else ""
    return f"a network of family {identity['family']}{architecture}"


def _foreign(path: Path, ours: UserError) -> Network:
    try:
        spandrel = library()
    except UserError as error:
        raise UserError(f"{ours}; for networks of others {error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the classes' own
            loaded = spandrel.ModelLoader(device="cpu").load_from_file(path)
    except spandrel.UnsupportedModelError as error:
        raise UserError(f"{ours}; and spandrel does not know its architecture either") from error
    except Exception as error:  # whatever a file of any kind makes some forty readers raise
        raise UserError(f"{ours}; and spandrel cannot read it: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, spandrel.ImageModelDescriptor) or loaded.input_channels not in (1, 3):
        raise UserError(
            f"{path}: {loaded.architecture.name}, expected a network from RGB or grey to the same"
        )
    if loaded.output_channels != loaded.input_channels:
        raise UserError(
            f"{path}: {loaded.input_channels} channels in, {loaded.output_channels} out, expected the same"
        )
    for name, parameter in loaded.model.named_parameters():
        if not parameter.isfinite().all():
            raise UserError(f"{path}: tensor {name} holds NaN or infinity: the file is damaged")
    return _Foreign(loaded).eval()


class _Foreign(Network):
    """A spandrel network as a module; one for grey images sees each channel as one."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.model: nn.Module = descriptor.model
        # Not a submodule: it pads to the sizes that the network accepts, and calls it.
        self.call = descriptor
        self.channels: int = descriptor.input_channels
        self.scale, self.halo = int(descriptor.scale), None

    def forward(self, lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        """Upscale; what leaves [0, 1] is cut there, as spandrel has it."""
        n, c, h, w = lr.shape
        # One by one: spandrel promises no larger batches, and SeemoRe mixes the images of one up.
        sr = torch.cat([self.call(image) for image in lr.reshape(-1, self.channels, h, w)[:, None]])
        return sr.reshape(n, c, *sr.shape[-2:])

    def identity(self) -> dict[str, Any]:
        """What decides its pixels beside its tensors, which spandrel reads its shape from."""
        return {"family": "spandrel", "architecture": self.call.architecture.id, "scale": self.scale}
