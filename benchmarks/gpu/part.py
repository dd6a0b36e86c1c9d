"""One part of benchmarks.gpu in a process of its own, so that a part that hangs or breaks the device ends alone."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

from benchmarks.gpu.material import Material
from srdist.machine import arithmetic

Part = Callable[[Material], dict[str, Any]]


def run_part(part: Part, material: Material, *, limit_s: float) -> dict[str, Any]:
    """Its figures and `seconds`; where it failed or took too long, `failed` says how.

    The process is forked from one that has imported everything and touched no device.
    """
    if limit_s < 1:
        return {"failed": "not begun: no time was left", "seconds": 0.0}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "benchmarks.gpu.preloaded"])
    material.kept.unlink(missing_ok=True)
    process = context.Process(target=_work, args=(part, material))
    began = time.monotonic()
    process.start()
    try:
        process.join(limit_s)
        in_time = not process.is_alive()
    finally:
        if process.is_alive():
            _end(process.pid)
        process.join()
    figures: dict[str, Any] = json.loads(material.kept.read_text()) if material.kept.is_file() else {}
    if not in_time:
        figures["failed"] = f"ended after {limit_s:.0f} s"
    elif process.exitcode != 0:
        figures["failed"] = f"its process ended with exit code {process.exitcode}"
    return figures | {"seconds": round(time.monotonic() - began, 1)}


def _work(part: Part, material: Material) -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    arithmetic.set_for_use()  # what trains sets it otherwise
    try:
        figures = part(material)
    except Exception as error:  # whatever it is: the other parts go on, and the reader sees it
        traceback.print_exc()
        figures = json.loads(material.kept.read_text()) if material.kept.is_file() else {}
        figures["failed"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    material.keep(figures)


def _end(pid: int | None) -> None:
    """Kill a part's process and all that it has started."""
    with suppress(psutil.NoSuchProcess):
        part = psutil.Process(pid)
        for one in [*part.children(recursive=True), part]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
