"""A checkout of srdist and its commands, of this commit or any other: asked by processes, never imported."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.processes import BIN, ROOT, clean_environment, kill_tree
from srdist.machine.cores import usable_cores

_ABOUT = """
import json, platform, numpy, PIL, srdist, torch
versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__}
print(json.dumps([srdist.__file__, versions | {"pillow": PIL.__version__}]))
"""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A repository of srdist with its environment."""

    root: Path

    @property
    def bin(self) -> Path:
        """The folder of its programs."""
        return BIN if self.root == ROOT else self.root / ".venv" / "bin"

    def about(self) -> dict[str, Any]:
        """Machine, versions and commit: what equal traces may depend on, and where they are from.

        Raises:
            SystemExit: its environment has the srdist of another checkout, or none.
        """
        if not (self.bin / "python").exists():
            sys.exit(f"{self.root}: no .venv in it: type `make setup` there")
        file, versions = json.loads(self.run("python", "-c", _ABOUT))
        if Path(file).resolve().parents[1] != self.root.resolve():
            sys.exit(f"{self.root}: its .venv has the srdist of {Path(file).parents[1]}")
        machine = {"system": platform.platform(), "cores": usable_cores(), **versions}
        return {
            "date": datetime.now(UTC).date().isoformat(),
            "commit": self._git("rev-parse", "HEAD").strip(),
            "uncommitted": self._git("status", "--porcelain").splitlines(),
            "machine": machine,
        }

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run one of its programs at its root; its standard output.

        Raises:
            SystemExit: its exit code is not 0; the message has what it said.
        """
        command = self._command(program, arguments)
        done = subprocess.run(
            command, cwd=self.root, env=_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def launch(self, ranks: int, *arguments: str | Path) -> None:
        """Run a script, or `-m srdist ...`, on this many CPU ranks (1 or 2) under Accelerate."""
        self.run("accelerate", *_launcher(ranks), *arguments)

    def launch_until(
        self, happened: Callable[[], bool], ask: Callable[[], None], *arguments: str | Path
    ) -> None:
        """Run a script on two ranks, call `ask` once `happened`, and wait for its end, which must be a good one."""
        command = self._command("accelerate", [*_launcher(2), *arguments])
        process = subprocess.Popen(
            command, cwd=self.root, env=_environment(), text=True, start_new_session=True
        )
        try:
            while process.poll() is None and not happened():
                time.sleep(0.05)
            if process.poll() is None:
                ask()
            if process.wait() != 0:
                sys.exit(f"{' '.join(command)}\nexit code {process.returncode}")
        finally:
            kill_tree(process)

    def _command(self, program: str, arguments: Sequence[str | Path]) -> list[str]:
        return [str(self.bin / program), *map(str, arguments)]

    def _git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", self.root, *arguments], capture_output=True, text=True, check=True
        ).stdout


def _launcher(ranks: int) -> list[str]:
    # Port 0: any free one, so that launches can run side by side.
    several = ["--config_file", "launch/cpu2.yaml", "--main_process_port", "0"]
    return ["launch", *(several if ranks == 2 else ["--config_file", "launch/one.yaml"])]


def _environment() -> dict[str, str]:
    return clean_environment() | {"ACCELERATE_USE_CPU": "true"}
