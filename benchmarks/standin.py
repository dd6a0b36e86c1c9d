"""Names for torchvision where it does not load with this torch: spandrel imports it for two architectures that nothing here uses.

There is no torchvision for every torch without CUDA. In this process the names go into sys.modules, for others into a folder.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_MODULES = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
_NAMES = ("InterpolationMode", "normalize", "rotate")


def torchvision_loads() -> bool:
    """Whether the real one is there and was built for this torch."""
    if "torchvision" in sys.modules:
        return getattr(sys.modules["torchvision"], "__file__", None) is not None
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        return False
    return True


def stand_in() -> dict[str, ModuleType]:
    """The modules that are to stand in sys.modules; none where the real one loads."""
    if torchvision_loads():
        return {}
    modules = {name: ModuleType(name) for name in _MODULES}
    functional: Any = modules[_MODULES[-1]]
    for name in _NAMES:
        setattr(functional, name, None)
    return modules


def environment(folder: Path) -> dict[str, str]:
    """What another process needs in its environment: a folder with the modules on its path; nothing where the real one loads."""
    if torchvision_loads():
        return {}
    transforms = folder / "torchvision" / "transforms"
    transforms.mkdir(parents=True, exist_ok=True)
    for package in (transforms.parent, transforms):
        (package / "__init__.py").touch()
    (transforms / "functional.py").write_text("".join(f"{name} = None\n" for name in _NAMES))
    return {"PYTHONPATH": str(folder)}
