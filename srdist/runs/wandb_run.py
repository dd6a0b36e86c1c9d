"""One run in Weights & Biases: rows, pictures, artifacts; and whatever happens there never stops the training.

Offline (no account needed) W&B writes under `RUN/wandb/`; `wandb sync` sends it later. A resumed run goes on under
the same id; since W&B's own counter starts anew offline, every row carries `step`, and all charts use that.
"""

from __future__ import annotations

import netrc
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from srdist.machine.redaction import redacted

Mode = Literal["online", "offline"]

FINISH_TIMEOUT_S = 60
"""How long the end of a run waits for a server that does not take the last rows; WANDB_FINISH_TIMEOUT overrides it."""


@dataclass(frozen=True, slots=True)
class AgentRun:
    """The run that `wandb agent` started this process for, by its ids in W&B."""

    sweep: str
    run: str


def of_agent() -> AgentRun | None:
    """What an agent of W&B left in the environment; None where none started this process."""
    sweep, run = os.environ.get("WANDB_SWEEP_ID", ""), os.environ.get("WANDB_RUN_ID", "")
    # They become names of folders.
    return AgentRun(sweep, run) if all(name.isalnum() for name in (sweep, run)) else None


def new_id() -> str:
    """An id for a run that is new to W&B: the one that an agent expects, else eight random digits."""
    agent = of_agent()
    return secrets.token_hex(4) if agent is None else agent.run


class WandbRun:
    """A W&B run that is tried once and, after a failure, let go with one line.

    Args:
        run: the run folder; its name is the run's name.
        run_id: id in W&B; the same on every resumption.
        say: prints one line for the user.
    """

    def __init__(
        self,
        run: Path,
        *,
        run_id: str,
        mode: Mode,
        project: str,
        facts: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self.say = say
        self._run: Any = None
        try:
            self._open(run, run_id=run_id, mode=mode, project=project, facts=facts)
        except Exception as error:  # W&B raises many kinds; none of them is a reason not to train
            if mode == "online":
                say(
                    f"W&B cannot be reached ({_short(error)}): logging offline; `wandb sync {run}/wandb/...` sends it"
                )
                try:
                    self._reopen_offline(run, run_id=run_id, project=project, facts=facts)
                except Exception as second:
                    self._give_up(second)
            else:
                self._give_up(error)

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values of one step."""
        self._try(lambda: self._run.log({**values, "step": step}))

    def picture(self, step: int, path: Path) -> None:
        """Log a sample grid."""

        def log() -> None:
            import wandb

            self._run.log({"samples": wandb.Image(str(path)), "step": step})

        self._try(log)

    def artifact(self, path: Path, *, name: str, kind: str) -> None:
        """Record a file by reference: its place and checksum, not its bytes."""

        def log() -> None:
            import wandb

            artifact = wandb.Artifact(name, type=kind)
            artifact.add_reference(path.resolve().as_uri())
            self._run.log_artifact(artifact)

        if self._run is None or not path.is_file():
            return
        try:
            log()
        except Exception as error:  # no reason to let the rows go too
            self.say(f"W&B did not take the artifact {name} ({_short(error)}): it is {path}")

    def close(self) -> None:
        """Write out what is pending; FINISH_TIMEOUT_S at most where the server does not answer."""
        if self._run is None:
            return
        folder = Path(self._run.dir).parent
        try:
            self._run.finish()
        except Exception as error:  # a server that died or answers 500, a dead service
            self.say(
                f"W&B did not get everything ({_short(error)}): `wandb sync {folder}` sends it; "
                "metrics.jsonl and samples/ are whole"
            )
        self._run = None

    def _open(self, run: Path, *, run_id: str, mode: Mode, project: str, facts: dict[str, Any]) -> None:
        import wandb

        settings = wandb.Settings(
            init_timeout=30,
            finish_timeout=float(os.environ.get("WANDB_FINISH_TIMEOUT", FINISH_TIMEOUT_S)),
            finish_timeout_raises=True,
            # A killed run keeps the rows of all but its last second.
            x_transaction_log_flush_interval=1.0,
            console="off",
            silent=True,
        )
        (run / "wandb").mkdir(parents=True, exist_ok=True)
        with _command_line_redacted():
            self._run = wandb.init(
                project=project,
                name=run.name,
                id=run_id,
                resume="allow",
                dir=str(run),
                mode=mode,
                config=facts,
                settings=settings,
            )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def _reopen_offline(self, run: Path, *, run_id: str, project: str, facts: dict[str, Any]) -> None:
        import wandb

        # Without the teardown the same id cannot be opened again in this process.
        wandb.teardown()
        self._open(run, run_id=run_id, mode="offline", project=project, facts=facts)

    def _try(self, work: Callable[[], object]) -> None:
        if self._run is None:
            return
        try:
            work()
        except Exception as error:  # a dead service, a full disk, a lost server: all mean "without W&B"
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._run = None
        self.say(
            f"W&B failed ({_short(error)}): going on without it; everything is in metrics.jsonl and samples/"
        )


@contextmanager
def _command_line_redacted() -> Iterator[None]:
    # W&B records it, and `--set data.shards=URL` may hold credentials.
    command_line = sys.argv
    sys.argv = [redacted(part) for part in command_line]
    try:
        yield
    finally:
        sys.argv = command_line


def mode_for(setting: str) -> Mode | None:
    """The mode for config's `log.wandb`; `auto` heeds WANDB_MODE, then goes online where there is an account."""
    if setting == "auto":
        setting = os.environ.get("WANDB_MODE", "") or ("online" if _has_account() else "offline")
    match setting:
        case "online":
            return "online"
        case "offline" | "dryrun":
            return "offline"
        case _:
            return None


def _has_account() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:160]
