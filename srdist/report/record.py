"""A run folder read back: config.yaml, metrics.jsonl and samples/ in, what happened out; for people and scripts without W&B."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from srdist.config import Config, load
from srdist.machine.errors import UserError

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Session:
    """One start or resumption, and how far it went."""

    opened: Row
    last_step: int
    end: str
    """done, why it stopped, or "" where the log does not say: it was killed, or still runs."""

    @property
    def first_step(self) -> int:
        """Optimizer steps done before."""
        return int(self.opened["step"])


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run folder tells."""

    name: str
    config: Config
    train: tuple[Row, ...]
    val: tuple[Row, ...]
    sessions: tuple[Session, ...]
    refused: tuple[Row, ...]
    """Steps left out because their loss or gradient was not finite."""
    signs: tuple[Row, ...]
    """What was noticed of the balance between network and critic."""
    train_seconds: float | None
    """Of training, validation apart, over all sessions; None where no session has ended."""
    samples: tuple[tuple[int, Path], ...]
    """(step, picture) of the sample grids, by step."""

    @property
    def last_step(self) -> int:
        """The last step that the log speaks of."""
        return self.sessions[-1].last_step

    @property
    def more_losses(self) -> list[str]:
        """Names of the losses beside the one that is minimized, in the order of the log."""
        return self._names("loss_", besides={"loss_last"})

    @property
    def more_norms(self) -> list[str]:
        """Names of the gradient norms of what is trained beside the network."""
        return self._names("grad_norm_", besides=set())

    @property
    def contest(self) -> list[str]:
        """Names of what tells how it stands between the network and its critic, where there is one."""
        return [*self._names("critic_", besides=set()), *self._names("drift_", besides=set())]

    def _names(self, begin: str, *, besides: set[str]) -> list[str]:
        named = {name: None for row in self.train for name in row if name.startswith(begin)}
        return [name for name in named if name not in besides]

    @property
    def best(self) -> Row | None:
        """The validation with the highest PSNR-Y; None where none has any."""
        scored = [row for row in self.val if math.isfinite(number_of(row, "psnr_y_db"))]
        return max(scored, key=lambda row: number_of(row, "psnr_y_db"), default=None)


def read_run(run: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        UserError: it is none, or its log or config is damaged.
    """
    log = run / "metrics.jsonl"
    if not log.is_file():
        state = "is no folder" if not run.is_dir() else "has no metrics.jsonl"
        raise UserError(f"{run}: {state}, expected the folder of a run, such as runs/demo_x2")
    rows = _rows(log)
    if not any(row["kind"] in ("start", "resume") for row in rows):
        raise UserError(f"{log}: no start of a run in it")
    seconds = [row["train_seconds"] for row in rows if "train_seconds" in row]
    pictures = ((path.stem.removeprefix("step-"), path) for path in (run / "samples").glob("step-*.png"))
    return RunRecord(
        name=run.resolve().name,
        config=load(run / "config.yaml"),
        train=tuple(row for row in rows if row["kind"] == "train"),
        val=tuple(row for row in rows if row["kind"] == "val"),
        sessions=tuple(_sessions(rows)),
        refused=tuple(row for row in rows if row["kind"] == "refused"),
        signs=tuple(row for row in rows if row["kind"] == "sign"),
        train_seconds=float(seconds[-1]) if seconds else None,
        samples=tuple(sorted((int(step), path) for step, path in pictures if step.isdecimal())),
    )


def number_of(row: Row, name: str) -> float:
    """A number of a row; NaN where it is missing, or stands as a word for want of JSON's (nan, inf)."""
    value = row.get(name)
    try:
        return float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return math.nan


def points_of(rows: Iterable[Row], name: str) -> tuple[tuple[float, float], ...]:
    """(step, number) of the rows that have it."""
    pairs = ((float(row["step"]), number_of(row, name)) for row in rows)
    # What no axis can show is no measurement.
    return tuple((step, value) for step, value in pairs if value == 0 or 1e-300 < abs(value) < 1e300)


class _LoggedRow(BaseModel):
    """What the report counts on in a row; the rest is as it comes."""

    model_config = ConfigDict(extra="allow", strict=True)

    step: Annotated[int, Field(ge=0, le=10**15)]
    kind: str
    changed: dict[str, Annotated[list[Any], Field(min_length=2, max_length=2)]] = {}
    train_seconds: Annotated[float, Field(ge=0, le=1e15)] = 0.0
    says: str = ""
    images: Annotated[int, Field(ge=0)] = 0
    parameters: Annotated[int, Field(ge=0)] = 0
    train_samples: Annotated[int, Field(ge=0)] = 0


def _rows(log: Path) -> list[Row]:
    lines = log.read_bytes().splitlines()
    rows: list[Row] = []
    for i, line in enumerate(lines, start=1):
        try:
            rows.append(_LoggedRow.model_validate_json(line).model_dump(exclude_unset=True))
        except ValidationError as error:
            if i == len(lines):
                break  # torn: the run was killed while it wrote, or is writing now
            shown = line[:60].decode(errors="replace")
            raise UserError(f"{log}: line {i} is no row of a run's log: {shown!r}") from error
    return rows


def _sessions(rows: Sequence[Row]) -> list[Session]:
    starts = [i for i, row in enumerate(rows) if row["kind"] in ("start", "resume")]
    sessions = []
    for i, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        last = rows[end - 1]
        reason = {"done": "done", "stop": f"stopped: {last.get('reason')}"}.get(last["kind"], "")
        sessions.append(Session(rows[i], max(int(row["step"]) for row in rows[i:end]), reason))
    return sessions
