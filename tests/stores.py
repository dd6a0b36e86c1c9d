"""Stores on loopback: an HTTP server with faults that serves a folder, and moto's S3 server."""

from __future__ import annotations

import random
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

FAULTS = ("reset", "stall", "truncate", "wrong", "busy")
"""The connection is reset, nothing comes, half of it comes, other bytes come, 503."""
KEY_ID, SECRET_KEY = "AKIASRDISTTESTS", "s3cr3t/k3y+0f/the+tests"


class FaultyServer:
    """Serves the files of `folder`, with ranges; each GET meets, with `rate`, one of the faults."""

    def __init__(
        self, folder: Path, *, rate: float = 0.0, faults: tuple[str, ...] = FAULTS, only: str = ""
    ) -> None:
        self.folder, self.rate, self.faults, self.only = folder, rate, faults, only
        self.gets: list[tuple[str, str]] = []
        """Path and range of each GET that was answered in full, or with other bytes."""
        self.met: list[str] = []
        """The faults."""
        self.headers: list[str] = []
        """What was sent as Authorization."""
        self.random, self.lock, self.closing = random.Random(7), Lock(), Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        self.netloc = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.netloc}"
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def fault(self, path: str) -> str | None:
        """What the next GET meets."""
        with self.lock:
            if self.only not in path or self.random.random() >= self.rate:
                return None
            self.met.append(self.random.choice(self.faults))
            return self.met[-1]

    def close(self) -> None:
        """Let go of the requests that are waited for."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, store: FaultyServer, *args: Any) -> None:
        self.store = store
        super().__init__(*args)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        data = self._data()
        self._head(404 if data is None else 200, len(data or b""))

    def do_GET(self) -> None:
        data, path = self._data(), urlsplit(self.path).path
        if data is None:
            self._head(404, 0)
            return
        asked = self.headers.get("Range", "")
        with self.store.lock:
            self.store.headers.append(self.headers.get("Authorization", ""))
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
        first, last = (int(found[1]), int(found[2] or len(data) - 1)) if found else (0, len(data) - 1)
        if found and first >= len(data):
            self._head(416, 0)
            return
        body = data[first : last + 1]
        fault = self.store.fault(path)
        match fault:
            case "busy":
                self._head(503, 0)
                return
            case "stall":
                self.store.closing.wait()
                return
            case "wrong":
                body = bytes(value ^ 0x55 for value in body)
        with self.store.lock:
            self.store.gets.append((path, asked))
        self._head(206 if found else 200, len(body), f"bytes {first}-{first + len(body) - 1}/{len(data)}")
        if fault in ("reset", "truncate"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(body)

    def _data(self) -> bytes | None:
        try:
            return (self.store.folder / unquote(urlsplit(self.path).path).lstrip("/")).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            return None

    def _head(self, status: int, length: int, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, ValueError):  # by the client, or by a fault
            self.close_connection = True


@contextmanager
def served(folder: Path, **settings: Any) -> Iterator[FaultyServer]:
    """A server of a folder, as long as it is needed."""
    server = FaultyServer(folder, **settings)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of an S3 server with an empty bucket `bucket`."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="bucket")
    client.close()
    yield url
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment in which s3fs finds that server and the credentials; the bucket's URL."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return "s3://bucket"
