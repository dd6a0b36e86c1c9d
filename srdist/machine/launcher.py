"""How this process was started: by which launcher, as which of how many, with what of the machine.

The only file that reads the variables that torchrun, accelerate, srun, a Slurm array, a Kubernetes Indexed Job and Ray
leave to what they start. What is no number there counts as absent; torch itself refuses a RANK that is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Literal

from srdist.machine.cores import usable_cores

Kind = Literal["none", "torchrun", "accelerate", "ray", "ranks", "srun", "slurm array", "indexed job"]
"""Ranks: RANK and WORLD_SIZE by something else, as Kubeflow's PyTorchJob. Ray: its Train sets those as well, a task of it does not."""

_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Launch:
    """This process among those that were started together."""

    kind: Kind
    rank: int
    """0 to world - 1, among what torchrun, accelerate or one srun started."""
    world: int
    local_rank: int
    """The same among those on this machine."""
    local_world: int
    part: int
    """Index in the array or Indexed Job (or --part) that this launch is one of; 0 where there is none."""
    share: float
    """Where in a list of work this process begins, 0 to below 1. It only spreads the starting points: whoever is done
    goes on with what the others have not begun."""
    cpus: int
    """Cores that are this process's alone."""
    joins: bool
    """Whether the `world` processes find each other in a process group; those of srun alone do not."""
    on_cpu: bool
    """Whether the GPUs are to be left alone."""

    @classmethod
    def of(cls, environ: Mapping[str, str], *, part_of: tuple[int, int] | None = None) -> Launch:
        """Read what the launcher has left.

        Args:
            part_of: (I, N) of --part, in the place of the index of an array or an Indexed Job.
        """

        def number(name: str, default: int) -> int:
            value = environ.get(name, "")
            return int(value) if value.isdigit() else default

        joins = "RANK" in environ or "WORLD_SIZE" in environ
        rank = number("RANK", number("SLURM_PROCID", 0))
        world = max(number("WORLD_SIZE", number("SLURM_NTASKS", 1)), 1)
        part, parts = part_of or (0, 1)
        if part_of is None and "SLURM_ARRAY_TASK_ID" in environ:
            step = max(number("SLURM_ARRAY_TASK_STEP", 1), 1)
            part = max(number("SLURM_ARRAY_TASK_ID", 0) - number("SLURM_ARRAY_TASK_MIN", 0), 0) // step
            parts = number("SLURM_ARRAY_TASK_COUNT", part + 1)
        elif part_of is None and "JOB_COMPLETION_INDEX" in environ:
            part, parts = number("JOB_COMPLETION_INDEX", 0), number("JOB_COMPLETIONS", 0)
        # Scripts that set RANK by Slurm's or MPI's own numbers often leave the rank on this machine to those.
        others = number("OMPI_COMM_WORLD_LOCAL_RANK", number("SLURM_LOCALID", 0)) if joins else 0
        local_rank, local_world = number("LOCAL_RANK", others), max(number("LOCAL_WORLD_SIZE", 1), 1)
        cores = usable_cores()
        # The script of a Slurm job has SLURM_PROCID and SLURM_NTASKS as well: only a step was started by srun.
        if not joins and "SLURM_STEP_ID" in environ:
            local_rank = number("SLURM_LOCALID", 0)
            local_world = _tasks_here(environ.get("SLURM_STEP_TASKS_PER_NODE", ""), number("SLURM_NODEID", 0))
            # Slurm ties each task to its cores only where its task plugin does; else all see those of the step.
            tied = cores < number("SLURM_CPUS_ON_NODE", 1)
            cpus = min(cores if tied else cores // local_world, number("SLURM_CPUS_PER_TASK", cores))
        elif "RAY_JOB_ID" in environ:
            # Ray binds nobody to cores: it sets this to the CPUs that it has counted for the process.
            cpus = min(cores, number("OMP_NUM_THREADS", cores // local_world))
        else:
            cpus = cores // local_world
        return cls(
            kind=_kind(environ),
            rank=rank,
            world=world,
            local_rank=local_rank,
            local_world=local_world,
            part=part,
            share=_share(rank, world, part=part, parts=parts),
            cpus=max(cpus, 1),
            joins=joins,
            on_cpu=environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true"),
        )

    def pass_on(self, environ: MutableMapping[str, str]) -> None:
        """Leave LOCAL_RANK, which is all that accelerate looks for, where ranks were started without one."""
        if self.joins and self.world > 1:
            environ.setdefault("LOCAL_RANK", str(self.local_rank))

    def gpu(self, count: int) -> int:
        """Number of this process's own GPU among the `count` that it sees.

        A Slurm array and an Indexed Job do not say which of them share a machine: their index spreads them. Where
        the launcher shows each process its own GPU alone, `count` is 1.
        """
        return (self.part * self.local_world + self.local_rank) % count

    @property
    def has_parent(self) -> bool:
        """Whether the launcher is a process on this machine that waits for this one."""
        return self.kind in ("torchrun", "accelerate")


def _kind(environ: Mapping[str, str]) -> Kind:
    # The innermost first: srun may start a torchrun, and an array an srun.
    marks: tuple[tuple[str, Kind], ...] = (
        ("ACCELERATE_MIXED_PRECISION", "accelerate"),
        ("TORCHELASTIC_RUN_ID", "torchrun"),
        ("RAY_JOB_ID", "ray"),
        ("RANK", "ranks"),
        ("SLURM_STEP_ID", "srun"),
        ("SLURM_ARRAY_TASK_ID", "slurm array"),
        ("JOB_COMPLETION_INDEX", "indexed job"),
    )
    return next((kind for variable, kind in marks if variable in environ), "none")


def _share(rank: int, world: int, *, part: int, parts: int) -> float:
    if not parts:
        # Kubernetes does not say how many there are: multiples of the golden ratio spread evenly without.
        return (part * _GOLDEN + rank / world) % 1.0
    return ((part * world + rank) / (parts * world)) % 1.0


def _tasks_here(tasks_per_node: str, node: int) -> int:
    """Tasks on the machine `node` of a step, from Slurm's "2(x3),1": 2 on each of three machines, 1 on the fourth."""
    for tasks, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks_per_node):
        node -= int(times or 1)
        if node < 0:
            return max(int(tasks), 1)
    return 1
