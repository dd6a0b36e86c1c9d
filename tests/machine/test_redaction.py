"""Credentials in URLs: in no message, no log and no file, while everything else is told as it is."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest
import wandb
from click.testing import CliRunner
from fsspec.implementations.local import LocalFileSystem

from srdist.cli.main import main
from srdist.config import describe, load
from srdist.machine.errors import UserError, WorkError
from srdist.machine.redaction import redacted
from srdist.runs.folder import changes
from srdist.shards import download
from srdist.shards.reader import ShardIndex
from tests.stores import KEY_ID, SECRET_KEY, served
from tests.training.runs import trainer_here


class Guarded(LocalFileSystem):
    """Wants credentials in its URLs, and repeats them in its errors, as the file systems of clouds do."""

    protocol = ("guarded", "wants-credentials")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.partition("@host")[2].partition("?")[0] if "://" in path else path

    def _open(self, path: str, *args: Any, **kwargs: Any) -> Any:
        if "denied" in path:
            raise PermissionError(f"403 for guarded://user:SECRET/9@host{path}?sig=TOKEN7")
        return super()._open(path, *args, **kwargs)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://KEY:SEC/RET+x==@bucket/set", "s3://***@bucket/set"),
        ("https://user:p%40ss@host:8080/a/b.tar", "https://***@host:8080/a/b.tar"),
        ("https://token@host/x", "https://***@host/x"),
        ("https://:password@host/x", "https://***@host/x"),
        ("s3://key:a#b?c@bucket/y", "s3://***@bucket/y"),
        ("ftp://u:12/34@h/x", "ftp://***@h/x"),
        ("az://c/set?sv=1&sig=abc%2F: denied", "az://c/set?*** denied"),
        ("Error(URL('https://h/x?sig=abc'), status=403)", "Error(URL('https://h/x?***'), status=403)"),
        ("https://u:p@h1/x and https://v:q@h2/y", "https://***@h1/x and https://***@h2/y"),
        ("https://host:8080/a/b", "https://host:8080/a/b"),
        ("s3://bucket/user@home/x", "s3://bucket/user@home/x"),
        ("hf://datasets/me/x@main/y", "hf://datasets/me/x@main/y"),
        ("no URL: a:b@c?d=e", "no URL: a:b@c?d=e"),
    ],
)
def test_what_a_url_hides_is_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


def test_a_config_is_shown_and_saved_without_credentials() -> None:
    config = load(None, ["data.shards='s3://KEY:SECRET@bucket/set?sig=TOKEN'"])
    assert config.data.shards == "s3://KEY:SECRET@bucket/set?sig=TOKEN"
    assert {name: value for name, value, _ in describe(config)}["data.shards"] == "s3://***@bucket/set?***"
    for saved in (config.model_dump_json(), str(config.model_dump(mode="json"))):
        assert "SECRET" not in saved
        assert "TOKEN" not in saved
    renewed = load(None, ["data.shards='s3://KEY:ANOTHER@bucket/set?sig=NEWER'"])
    assert changes(config, renewed, source=Path("runs/x")) == {}


def test_a_run_on_a_guarded_url_leaves_no_credentials_on_screen_or_disk(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fsspec.register_implementation("guarded", Guarded, clobber=True)
    monkeypatch.setenv("SRDIST_CACHE", str(tmp_path / "cache"))
    url = f"guarded://user:SECRET/9@host{small_set}?sig=TOKEN7"
    setting = f"data.shards='{url}'"
    monkeypatch.setattr(sys, "argv", ["srdist", "train", "--set", setting])
    with trainer_here(Path(), tmp_path / "run", setting, "log.wandb=offline", "train.steps=2") as trainer:
        trainer.fit()
    wandb.teardown()  # its service would outlive this test
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    for data in (*capfd.readouterr(), *(path.read_bytes().decode(errors="ignore") for path in files)):
        assert "SECRET" not in data
        assert "TOKEN7" not in data
    assert f"guarded://***@host{small_set}?***" in (tmp_path / "run/config.yaml").read_text()


def _trains_without_a_trace(
    url: str, secrets: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Train from a store; whatever of it is on the disk, the secrets not."""
    for name in ("SRDIST_CACHE", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.01)
    setting = f"data.shards='{url}'"
    monkeypatch.setattr(sys, "argv", ["srdist", "train", "--set", setting])
    settings = ("log.wandb=offline", "train.steps=2", "data.workers=1")
    with trainer_here(Path(), tmp_path / "run", setting, *settings) as trainer:
        trainer.fit()
    wandb.teardown()
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.yaml", "manifest.json", "train.npy"} <= {path.name for path in left}
    for path in left:
        data = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in data], path
    return [path.name for path in left]


def test_a_run_from_an_http_server_that_wants_a_password_leaves_none_of_it(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secrets = ("SECRET9", "TOKEN7", base64.b64encode(b"user:SECRET9").decode().rstrip("="))
    with served(small_set, rate=0.3, faults=("busy", "reset")) as server:
        url = f"http://user:SECRET9@{server.netloc}?sig=TOKEN7"
        _trains_without_a_trace(url, secrets, tmp_path, monkeypatch)
        assert any(secrets[2] in header for header in server.headers)
        server.rate, server.faults = 1.0, ("busy",)
        monkeypatch.setattr(download, "TRIES", 2)
        with pytest.raises(WorkError, match=r"http://\*\*\*@.*in 2 tries: .*503") as caught:
            ShardIndex.open(url, "train")
    for told in (*capfd.readouterr(), str(caught.value)):
        assert not [secret for secret in secrets if secret in told]


def test_a_run_from_s3_leaves_nothing_of_the_keys_in_the_environment(
    small_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    s3: str,
) -> None:
    fsspec.filesystem("s3").put(str(small_set), "bucket/small", recursive=True)
    secrets = (SECRET_KEY, KEY_ID)
    _trains_without_a_trace(f"{s3}/small", secrets, tmp_path, monkeypatch)
    assert not [secret for told in capfd.readouterr() for secret in secrets if secret in told]


def test_what_a_backend_says_of_a_url_is_told_without_its_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.register_implementation("guarded", Guarded, clobber=True)
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.001)
    with pytest.raises(WorkError) as caught:
        ShardIndex.open(f"guarded://user:SECRET/9@host{tmp_path}/denied?sig=TOKEN7", "train")
    told = str(caught.value)
    assert "403 for guarded://***@host" in told
    assert "SECRET" not in told
    assert "TOKEN7" not in told


def test_a_url_that_was_saved_without_its_credentials_is_not_tried() -> None:
    with pytest.raises(UserError, match="credentials, which are never saved: give the whole URL again"):
        ShardIndex.open("s3://***@bucket/set", "train")


def test_the_commands_of_sets_say_where_a_set_lies_without_its_credentials(small_set: Path) -> None:
    url = f"file://{small_set}?sig=TOKEN7"
    for command in ("verify", "info"):
        done = CliRunner().invoke(main, ["shards", command, url])
        assert "file://" in done.output
        assert "TOKEN7" not in done.output


@pytest.mark.parametrize(
    "call",
    [
        "URL",
        "shards verify URL URL",
        "shards verify --URL",
        "shards order URL --seed URL",
        "evaluate --hr URL --kernel URL",
    ],
)
def test_a_call_that_is_wrong_is_told_without_the_credentials_in_it(call: str) -> None:
    words = call.replace("URL", "http://bob:SECRET@127.0.0.1:9/set").split()
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "http://***@127.0.0.1" in result.output
    assert "SECRET" not in result.output
