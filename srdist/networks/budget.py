"""How many values may be made while a network is made of what a file claims: a file may claim any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from srdist.machine.errors import UserError

_LEAST = 1000
"""A tensor counts as at least so many values: a million small layers take long too."""


@contextmanager
def at_most(values: int) -> Iterator[None]:
    """Within, torch makes no more than about `values` values together.

    Raises:
        UserError: more were asked for.
    """
    with _Budget(values):
        yield


class _Budget(TorchFunctionMode):
    def __init__(self, values: int) -> None:
        super().__init__()
        self.left = self.all = values

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _MAKERS:
            self._spend(_asked(args, kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if func in _MAKERS and isinstance(result, Tensor):
            self._spend(_LEAST)
        return result

    def _spend(self, values: int) -> None:
        self.left -= values
        if self.left < 0:
            raise UserError(
                f"the network that the file claims has more than {self.all:,} values, far more than its tensors"
            )


_MAKERS = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye, torch.arange}


def _asked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    sizes = args[0] if args and isinstance(args[0], list | tuple) else [*args, *kwargs.get("size", ())]
    return math.prod(abs(int(side)) for side in sizes if isinstance(side, int | float))
