"""A stand-in for W&B's server on the loopback interface: as much of its API as an online run asks for."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self


class WandbServer:
    """Takes runs in and remembers them; may be told to answer 500, or be closed in the middle of a run."""

    def __init__(self) -> None:
        self.broken = False
        """Answer every request with 500."""
        self.refused = 0
        """Requests answered with 500."""
        self.rows: dict[str, list[dict[str, Any]]] = {}
        """History rows by run id, in the order of arrival."""
        self.opened: list[str] = []
        """Run ids, each time that one was opened."""
        self.uploads: list[str] = []
        """Paths of uploaded files."""
        self.sweep = ""
        """The file of a sweep, for its agents."""
        self.trials: dict[str, dict[str, Any]] = {}
        """Values of the sweep's runs that no agent has had yet, by run id."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def do_POST(self) -> None:
                """GraphQL, or a piece of a run's file stream."""
                body = _body(self)
                answer = server._graphql(body) if self.path.endswith("/graphql") else {}
                if self.path.endswith("/file_stream"):
                    server._take(self.path.split("/")[-2], body)
                self._answer(200, json.dumps(answer).encode())

            def do_PUT(self) -> None:
                """A file of a run."""
                _body(self)
                server.uploads.append(self.path)
                self._answer(200, b"")

            def do_GET(self) -> None:
                """Nothing can be downloaded."""
                self._answer(404, b"")

            def _answer(self, status: int, body: bytes) -> None:
                if server.broken:
                    server.refused += 1
                    status, body = 500, b"{}"
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._open = True
        Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Be gone: connections are refused from here on."""
        if self._open:
            self._open = False
            self._http.shutdown()
            self._http.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, run_id: str, body: bytes) -> None:
        if self.broken:
            return
        files = json.loads(body).get("files") or {}
        lines = files.get("wandb-history.jsonl", {}).get("content", [])
        self.rows.setdefault(run_id, []).extend(map(json.loads, lines))

    def _graphql(self, body: bytes) -> dict[str, Any]:
        asked = json.loads(body)
        query, given = asked["query"], asked.get("variables") or {}
        if "upsertBucket" in query:
            run_id = str(given.get("name"))
            self.opened.append(run_id)
            project = {"id": "UHJv", "name": given.get("project"), "entity": {"id": "RW50", "name": "me"}}
            bucket = {
                "id": "QnVja2V0",
                "name": run_id,
                "displayName": "run",
                "config": "{}",
                "historyLineCount": 0,
                "project": project,
            }
            data: dict[str, Any] = {"upsertBucket": {"bucket": bucket, "inserted": True}}
        elif "viewer" in query:
            data = {"viewer": {"id": "VXNlcg==", "entity": "me", "username": "me", "flags": "{}"}}
            data["viewer"]["teams"] = {"edges": []}
        elif "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in given["files"]]
            data = {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        elif "createAgent" in query:
            data = {"createAgent": {"agent": {"id": "QWdlbnQ="}}}
        elif "agentHeartbeat" in query:
            commands = self._commands(busy=bool(json.loads(given.get("runState") or "{}")))
            data = {"agentHeartbeat": {"agent": {"id": "QWdlbnQ="}, "commands": json.dumps(commands)}}
        elif "sweep(" in query:
            sweep = {"id": "U3dlZXA=", "name": "sweep", "config": self.sweep, "runs": {"edges": []}}
            data = {"project": {"sweep": sweep | {"state": "RUNNING"}}}
        elif "createArtifact" in query:
            # Artifacts are checked in offline runs: refused here, they must not take the rows with them.
            return {"errors": [{"message": "no artifacts here"}], "data": None}
        else:
            # No artifact type is known yet; nothing else that is asked matters to a run.
            data = {"project": None} if "rtifact" in query else {}
        return {"data": data}

    def _commands(self, *, busy: bool) -> list[dict[str, Any]]:
        """What an agent is to do next: a run of the sweep, one after the other, or to end."""
        if busy:
            return []
        if not self.trials:
            return [{"type": "exit"}]
        run_id = next(iter(self.trials))
        args = {name: {"value": value} for name, value in self.trials.pop(run_id).items()}
        return [{"type": "run", "run_id": run_id, "program": "srdist/train.py", "args": args}]


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("transfer-encoding", "").lower() != "chunked":
        return request.rfile.read(int(request.headers.get("content-length") or 0))
    body = b""
    while size := int(request.rfile.readline(), 16):
        body += request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()
    return body
