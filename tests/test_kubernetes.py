"""launch/kubernetes: each manifest is held strictly against its schema, and its command is run as a pod would run it.

The schemas are those of wheels: kubernetes-validate has the ones of Kubernetes, kubeflow_trainer_api models of Kubeflow
Trainer's own. There is no cluster and no docker daemon here (launch/README.md says what that leaves open).
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import socket
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import kubernetes_validate
import numpy as np
import psutil
import pytest
import yaml
from kubeflow_trainer_api.models import trainer_v1alpha1_train_job, trainer_v1alpha1_training_runtime
from PIL import Image

from tests.conftest import ROOT, clean_environment
from tests.training.runs import BIN, Launch, kill_tree

FOLDER = ROOT / "launch/kubernetes"
DOCUMENTS: list[dict[str, Any]] = [
    document for path in sorted(FOLDER.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())
]
TRAINER: dict[str, Any] = {
    "TrainJob": trainer_v1alpha1_train_job.TrainerV1alpha1TrainJob,
    "TrainingRuntime": trainer_v1alpha1_training_runtime.TrainerV1alpha1TrainingRuntime,
}


def _of(kind: str) -> dict[str, Any]:
    (found,) = [document for document in DOCUMENTS if document["kind"] == kind]
    return copy.deepcopy(found)


def _validate(document: dict[str, Any]) -> None:
    if document["kind"] not in TRAINER:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        return
    # What a model does not know it leaves out.
    assert TRAINER[document["kind"]].from_dict(copy.deepcopy(document)).to_dict() == document
    if document["kind"] == "TrainingRuntime":
        for job in document["spec"]["template"]["spec"]["replicatedJobs"]:
            _validate(
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "metadata": {"name": "x"},
                    "spec": job["template"]["spec"],
                }
            )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["kind"])
def test_a_manifest_has_no_field_that_its_schema_does_not_know(document: dict[str, Any]) -> None:
    _validate(document)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("TrainJob", ("spec", "trainer", "numProcsPerNode"), 8),
        ("TrainJob", ("spec", "trainer", "numProcPerNode"), "8"),
        ("TrainingRuntime", ("spec", "mlPolicy", "numNode"), 1),
        (
            "TrainingRuntime",
            ("spec", "template", "spec", "replicatedJobs", 0, "template", "spec", "backofLimit"),
            1,
        ),
        ("Job", ("spec", "completion"), 8),
        ("Job", ("spec", "completions"), "8"),
    ],
)
def test_a_misspelt_field_and_a_wrong_type_would_be_noticed(
    kind: str, path: tuple[Any, ...], value: object
) -> None:
    document = _of(kind)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises((AssertionError, ValueError, kubernetes_validate.ValidationError)):
        _validate(document)


def test_the_parts_of_the_manifests_belong_together() -> None:
    runtime, job, claim, upscale = (
        _of("TrainingRuntime"),
        _of("TrainJob"),
        _of("PersistentVolumeClaim"),
        _of("Job"),
    )
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pods = [replicated["template"]["spec"]["template"]["spec"], upscale["spec"]["template"]["spec"]]
    user = next(
        line.split()[1]
        for line in (FOLDER / "Dockerfile").read_text().splitlines()
        if line.startswith("USER ")
    )
    for pod in pods:
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert str(pod["securityContext"]["runAsUser"]) == user
    (container,) = upscale["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "JOB_COMPLETIONS", "value": str(upscale["spec"]["completions"])}]


def test_hadolint_finds_nothing_in_the_dockerfile_and_what_it_copies_is_there() -> None:
    dockerfile = FOLDER / "Dockerfile"
    done = subprocess.run(
        [BIN / "hadolint", dockerfile], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")
    lines = [line.split() for line in dockerfile.read_text().splitlines()]
    copied = {source for line in lines if line[:1] == ["COPY"] for source in line[1:-1]}
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert copied == {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert all((ROOT / source).exists() for source in copied)
    assert 'ENTRYPOINT ["tini", "--"]' in dockerfile.read_text()


class _Pods:
    """Commands of the manifests as pods would run them: each process 1 of a process namespace of its own, under tini."""

    def __init__(self, work: Path) -> None:
        if shutil.which("tini") is None or shutil.which("unshare") is None or os.geteuid() != 0:
            pytest.skip("needs tini (Debian's package), unshare and root")
        self.work = work
        self.running: list[subprocess.Popen[str]] = []

    def __enter__(self) -> _Pods:
        return self

    def __exit__(self, *_: object) -> None:
        for pod in self.running:
            kill_tree(pod)

    def start(self, command: list[str], environ: dict[str, str]) -> None:
        """Start a command whose /work is `work`, and whose programs are those of this environment."""
        mounted = [
            str(self.work) + part.removeprefix("/work") if part.startswith("/work/") else part
            for part in command
        ]
        self.running.append(
            subprocess.Popen(
                ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *mounted],
                cwd=ROOT,
                env=clean_environment() | {"PATH": f"{BIN}:{os.environ['PATH']}"} | environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )

    def delete(self) -> None:
        """Send SIGTERM to process 1 of each, as the kubelet does."""
        for pod in self.running:
            (tini,) = psutil.Process(pod.pid).children()
            assert tini.name() == "tini"
            tini.send_signal(signal.SIGTERM)

    def said(self) -> list[str]:
        """What each has said when all have ended."""
        return [pod.communicate(timeout=300)[0] for pod in self.running]


@pytest.mark.slow
def test_ranks_of_a_training_whose_pods_are_deleted_save_at_one_step(small_set: Path, tmp_path: Path) -> None:
    trainer = _of("TrainJob")["spec"]["trainer"]
    launch = Launch(small_set, tmp_path / "runs/srcnn_x2", ("train.steps=100000",))
    ours = launch.command()
    settings = ours[ours.index("--set") :]
    shutil.copy(ROOT / launch.config, tmp_path / "config.yaml")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    # What Trainer sets for two nodes, of one process each.
    common = {
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "1",
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": port,
    }
    with _Pods(tmp_path) as pods:
        for node in range(trainer["numNodes"]):
            environ = common | {"PET_NODE_RANK": str(node), "ACCELERATE_USE_CPU": "true"}
            pods.start([*trainer["command"], *trainer["args"], *settings], environ)
        launch.wait_for_step(3, pods.running[0])
        pods.delete()
        said = pods.said()
    assert json.loads((launch.run / "STOPPED").read_text())["reason"] == "SIGTERM", said
    assert launch.rows("start")[0]["world"] == 2
    assert launch.final().trainer["state"]["step"] >= 3


@pytest.mark.slow
def test_pods_of_the_indexed_job_share_the_images(tmp_path: Path) -> None:
    (container,) = _of("Job")["spec"]["template"]["spec"]["containers"]
    environ = {variable["name"]: variable["value"] for variable in container["env"]}
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0)
    for number in range(16):  # a unit each
        image = noise.integers(0, 256, (256, 256, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / f"photos/{number:02d}.png")
    with _Pods(tmp_path) as pods:
        for index in (0, 4):
            # The image's ENTRYPOINT, then the args.
            pods.start(["tini", "--", *container["args"]], environ | {"JOB_COMPLETION_INDEX": str(index)})
        said = pods.said()
        assert [pod.returncode for pod in pods.running] == [0, 0], said
    assert len(list((tmp_path / "upscaled").glob("*.png"))) == 16
    logs = (tmp_path / "upscaled/.srdist/receipts").glob("*.jsonl")
    receipts = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    done = Counter(receipt["path"] for receipt in receipts if receipt["status"] == "done")
    assert set(done.values()) == {1}
    assert len(done) == 16
