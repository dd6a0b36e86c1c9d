"""The labs themselves: they give back what their command says, and nothing of them outlives it, or them."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.conftest import clean_environment
from tests.launch.lab import SCRIPTS, command_of, missing, wait_until

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

HOSTS = str(SCRIPTS / "hosts.sh")
ON = str(SCRIPTS / "on.sh")


def test_the_hosts_have_names_and_a_network_of_their_own_and_the_commands_exit_code_comes_back(
    tmp_path: Path,
) -> None:
    look = f'{ON} h1 bash -c "hostname; pwd; getent hosts h0; ps -e --no-headers | wc -l"; ls "$LAB"/h?.pid; exit 7'
    environment = clean_environment() | {"TMPDIR": str(tmp_path)}
    lab = subprocess.run(
        [HOSTS, "2", "bash", "-c", look],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert lab.returncode == 7, lab.stderr
    name, folder, address, processes, *hosts = lab.stdout.splitlines()
    assert (name, folder) == ("h1", str(tmp_path))
    assert address.split() == ["10.77.0.1", "h0"]
    assert int(processes) < 8  # its own
    assert [Path(host).name for host in hosts] == ["h0.pid", "h1.pid"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_lab_whose_script_is_killed_is_gone_with_all_that_runs_on_its_hosts(
    tmp_path: Path, number: signal.Signals
) -> None:
    environment = clean_environment() | {"TMPDIR": str(tmp_path)}
    script = subprocess.Popen([HOSTS, "1", ON, "h0", "sleep", "1000"], env=environment, text=True)
    everything: list[psutil.Process] = []

    def is_up() -> bool:
        everything[:] = psutil.Process(script.pid).children(recursive=True)
        return any(command_of(one) == ["sleep", "1000"] for one in everything)

    wait_until(is_up, "the lab", timeout_s=60, process=script)
    script.send_signal(number)
    script.wait(60)
    _, alive = psutil.wait_procs(everything, timeout=60)
    assert alive == []
    if number == signal.SIGTERM:
        assert list(tmp_path.iterdir()) == []
