"""Pushing to a hub that speaks the hub's own protocol, on this machine."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from ettin_core.foundation.errors import UserError
from ettin_core.interop.hub import check_login, push


class Hub(ThreadingHTTPServer):
    """What was created and committed, by repository and branch."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.created: list[dict[str, Any]] = []
        self.branches: list[str] = []
        self.files: dict[str, dict[str, bytes]] = {}


class Handler(BaseHTTPRequestHandler):
    """The five requests that an upload makes."""

    server: Hub

    def log_message(self, *arguments: object) -> None:
        """Nothing."""

    def answer(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == "Bearer hf_right"
        self.answer({"name": "me"} if known else {"error": "Invalid user token."}, 200 if known else 401)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length")
        body = self.rfile.read(int(length)) if length else self.chunked()
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self.answer({"url": f"http://{self.headers['Host']}/me/{json.loads(body)['name']}"})
        elif "/branch/" in self.path:
            self.server.branches.append(self.path.rpartition("/")[2])
            self.answer({})
        elif "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self.answer({"files": [item | {"shouldIgnore": False} for item in files]})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.decode().splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            branch = self.server.files.setdefault(self.path.rpartition("/")[2], {})
            branch |= {file["path"]: base64.b64decode(file["content"]) for file in files}
            self.answer(
                {
                    "commitUrl": f"http://{self.headers['Host']}/me/model/commit/{'0' * 40}",
                    "commitOid": "0" * 40,
                    "success": True,
                }
            )
        else:  # the card's front matter
            self.answer({"errors": [], "warnings": []})

    def chunked(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    yield server
    server.shutdown()
    server.server_close()


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "config.json").write_text(text)
    (path / "model.safetensors").write_bytes(b"\0weights")
    (path / ".made_by.json").write_text("{}")
    return path


def test_a_folder_is_a_branch_and_the_marker_stays_here(hub: Hub, tmp_path: Path) -> None:
    check_login("me/model")
    revisions = {"main": folder(tmp_path / "last", '{"last": 1}'), "step0": folder(tmp_path / "first", '{"first": 1}')}
    push("me/model", revisions, True, "tiny-encoder")
    assert hub.created[0]["name"] == "model" and hub.created[0]["visibility"] == "private"
    assert hub.branches == ["step0"]
    assert {name: set(files) for name, files in hub.files.items()} == {
        "main": {"config.json", "model.safetensors"},
        "step0": {"config.json", "model.safetensors"},
    }
    assert hub.files["step0"]["config.json"] == b'{"first": 1}'


def test_what_the_hub_refuses_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(repo_id: str, words: str) -> None:
        with pytest.raises(UserError, match=words) as caught:
            check_login(repo_id)
        assert "\n" not in str(caught.value)

    refused("model", "push='model' names no owner")
    refused("me/../model", "push='me/../model' cannot be done")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused("me/model", "hf auth login")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("me/model", r"[Oo]ffline.*HF_HUB_OFFLINE=0")
