"""Networks for tests: one around another, and a second family beside srdist's own."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from srdist.networks.network import Network


class Around(Network):
    """Another network, looked at or led astray by those that inherit from this."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.scale, self.halo, self.multiple = network.scale, network.halo, network.multiple

    def forward(self, lr: Tensor) -> Tensor:
        sr: Tensor = self.network(lr)
        return sr

    def identity(self) -> dict[str, Any]:
        return self.network.identity()
