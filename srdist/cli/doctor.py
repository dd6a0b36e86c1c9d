"""`srdist doctor` and `srdist --version`: what is installed and granted here, and whether it computes what it should."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from srdist import __version__
from srdist.machine.errors import UserError
from srdist.machine.launcher import Launch

if TYPE_CHECKING:
    from srdist.doctor.hardware import Device, Grants
    from srdist.doctor.packages import Extra, Package
    from srdist.doctor.selftest import Verdict

_MARGIN = 16


@dataclass(frozen=True, slots=True)
class Findings:
    """What the doctor has found."""

    torch: str | None
    """Its version; None: it is missing or does not load, and nothing is known of devices."""
    devices: tuple[Device, ...]
    grants: Grants | None
    packages: tuple[Package, ...]
    extras: tuple[Extra, ...]
    verdicts: tuple[Verdict, ...]
    problems: tuple[str, ...]
    """Why the exit code is 1."""

    @classmethod
    def here(cls) -> Findings:
        """Of this process, on this machine."""
        from srdist.doctor.packages import Requirements

        wanted = Requirements.installed()
        packages = wanted.always() if wanted else ()
        extras = wanted.optional() if wanted else ()
        problems = [
            f"{package.name} {package.problem}: pip install '{package.name}{package.wanted}'"
            for package in packages
            if package.problem
        ]
        if wanted is None:
            problems.append("srdist is not installed, only on the path: pip install . in its folder")
        # An extra of which nothing is installed is missing on purpose; one that is there in part, or does not load, is not.
        problems += [
            f"{package.name} {package.problem}: {extra.install}"
            for extra in extras
            for package in extra.missing
            if package.version is not None
        ]
        if any(package.problem for package in packages):
            return cls(None, (), None, packages, extras, (), (*problems, "self-test: not run"))
        import torch

        from srdist.doctor.hardware import Grants, devices
        from srdist.doctor.selftest import self_test

        verdicts = self_test()
        problems += [f"{one.name} on {one.device}: {one.problem}" for one in verdicts if one.problem]
        return cls(
            str(torch.__version__), devices(), Grants.here(), packages, extras, verdicts, tuple(problems)
        )

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "srdist": __version__,
            "python": platform.python_version(),
            "system": platform.platform(),
            "torch": self.torch,
            "devices": [asdict(device) for device in self.devices],
            "grants": asdict(self.grants) if self.grants else None,
            "packages": [asdict(package) for package in self.packages],
            "extras": {
                extra.name: {"missing": [one.name for one in extra.missing], "install": extra.install}
                for extra in self.extras
            },
            "self_test": [asdict(verdict) for verdict in self.verdicts],
            "problems": list(self.problems),
        }


def _refuse_ranks() -> None:
    launch = Launch.of(os.environ)
    if launch.joins and launch.world > 1:
        raise UserError("srdist doctor is one process: give it without a launcher, on each machine")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Say what is installed, which devices, cores and memory there are, what is missing, and test it all in seconds.

    The exit code is 0 where srdist works here, and 1 where something is wrong. Optional parts that are not installed are
    told with the line that installs them, and are nothing wrong.
    """
    _refuse_ranks()
    findings = Findings.here()
    if as_json:
        click.echo(json.dumps(findings.as_json(), indent=1))
    else:
        for line in _lines(findings):
            click.echo(line)
    context.exit(1 if findings.problems else 0)


def version_lines() -> Iterator[str]:
    """srdist's version, torch's, and the devices: what a report of a defect needs."""
    yield f"srdist {__version__}"
    try:
        import torch

        from srdist.doctor.hardware import devices
    except ImportError as error:
        yield f"torch does not load: {error}"
        return
    yield f"torch {torch.__version__}"
    yield from (f"{device.name} {_model(device)}" for device in devices())


def _lines(found: Findings) -> Iterator[str]:
    yield _row("srdist", f"{__version__} in {Path(__file__).parents[1]}")
    yield _row("Python", f"{platform.python_version()}, {platform.platform()}")
    yield _row("torch", found.torch or "not looked at")
    for device in found.devices:
        yield _row("device", f"{device.name} {_model(device)}")
    if found.grants:
        grants = found.grants
        yield _row("cores", f"{grants.cores} of this machine's {grants.cores_of_machine}")
        yield _row("memory", "unknown" if grants.memory_mb is None else f"{grants.memory_mb:,.0f} MB")
        yield _row("temporary", f"{grants.temporary}, {grants.temporary_free_mb:,.0f} MB free")
    in_order = sum(package.problem is None for package in found.packages)
    yield _row("packages", f"{in_order} of {len(found.packages)} in order")
    for extra in found.extras:
        yield _row(f"[{extra.name}]", _state(extra))
    for verdict in found.verdicts:
        result = verdict.problem or "right to the bit"
        yield _row("self-test", f"{verdict.name} on {verdict.device}: {result} ({verdict.seconds:.1f} s)")
    yield from _closing(found.problems)


def _closing(problems: Sequence[str]) -> Iterator[str]:
    if not problems:
        yield "Everything is in order."
    for problem in problems:
        yield f"PROBLEM: {problem}"


def _state(extra: Extra) -> str:
    if not extra.missing:
        return "installed"
    parts = (f"{one.name} {one.problem}" for one in extra.missing)
    return f"{'; '.join(parts)}: {extra.install}"


def _model(device: Device) -> str:
    return device.model + (f", {device.memory_mb:,.0f} MB" if device.memory_mb is not None else "")


def _row(title: str, text: str) -> str:
    return f"{title:<{_MARGIN}}{text}"
