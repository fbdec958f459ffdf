"""A hub on the loopback: the endpoints that huggingface_hub asks, over repositories in memory.

Regular files come inline in the commit, files in `*.safetensors` by the LFS protocol, as on the real one.
"""

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

WRITER = "hf_writer"
"""The token of the user `me`, who may write to `me/...` and see everything."""

READER = "hf_reader"
"""A token that may see gated and private repositories, and write nowhere."""

Files = dict[str, bytes]


@dataclass
class Repository:
    """Commits by hash, and what branches, tags and pull requests point to."""

    private: bool = False
    gated: bool = False
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Files] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files, *, ref: str = "main", message: str = "", onto: str | None = None) -> str:
        before = self.commits.get(self.refs.get(onto or ref, ""), {})
        content = {**before, **files}
        digest = hashlib.sha1(repr((sorted(content.items()), len(self.commits))).encode()).hexdigest()
        self.commits[digest], self.messages[digest], self.refs[ref] = content, message, digest
        return digest

    def files_at(self, revision: str) -> tuple[str, Files] | None:
        digest = self.refs.get(revision, revision)
        return (digest, self.commits[digest]) if digest in self.commits else None


class TinyHub:
    """Repositories, stored blobs, and every request that came."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.refuse_all_with: int | None = None
        self.refuse_card_with: str | None = None
        self.endpoint = ""
        self.connections: list[socket.socket] = []

    def add(self, repo_id: str, files: Files | None = None, **options: bool) -> Repository:
        repository = self.repositories[repo_id] = Repository(**options)
        repository.commit(files or {}, message="initial commit")
        return repository

    def asked_for(self, ending: str) -> list[str]:
        """What was requested whose path ends like this."""
        return [path for _, path in self.requests if path.endswith(ending)]

    def hang_up(self) -> None:
        """Close what clients keep open, so that nothing answers any more."""
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def running_hub() -> Iterator[TinyHub]:
    hub = TinyHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        hub.hang_up()


def connect(hub: TinyHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub, which reads its environment when it is imported, talk to this hub from now on."""
    from huggingface_hub import constants

    for name, value in {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache / "hub"),
        "HF_TOKEN_PATH": str(cache / "token"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")


def environment(hub: TinyHub, cache: Path) -> dict[str, str]:
    """The same for another process, by the variables that are documented."""
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(cache),
        "HF_TOKEN": WRITER,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
    }


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_lfs(path: str) -> bool:
    return path.endswith(".safetensors")


class _Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


class _Handler(BaseHTTPRequestHandler):
    hub: TinyHub
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.hub.connections.append(self.connection)

    def log_message(self, *arguments: Any) -> None:
        pass

    def _answer(self) -> None:
        address = urlsplit(self.path)
        parts = [unquote(part) for part in address.path.strip("/").split("/")]
        assert "chunked" not in self.headers.get("Transfer-Encoding", ""), "the client was not expected to do so"
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append((self.command, unquote(address.path)))
        try:
            if self.hub.refuse_all_with is not None:
                raise _Refusal(self.hub.refuse_all_with, "the hub is unwell")
            self._route(parts, parse_qs(address.query))
        except _Refusal as refusal:
            headers = {"X-Error-Message": refusal.message}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            self._send(refusal.status, json.dumps({"error": refusal.message}).encode(), headers)

    do_HEAD = do_GET = do_POST = do_PUT = _answer  # noqa: N815

    def _route(self, parts: list[str], query: dict[str, list[str]]) -> None:
        match parts:
            case ["api", "repos", "create"]:
                self._create(json.loads(self.body))
            case ["api", "validate-yaml"]:
                self._validate_card()
            case ["api", "models", owner, name]:
                self._info(f"{owner}/{name}", "main")
            case ["api", "models", owner, name, "revision", *revision]:
                self._info(f"{owner}/{name}", "/".join(revision))
            case ["api", "models", owner, name, "tree", revision]:
                self._tree(f"{owner}/{name}", revision)
            case ["api", "models", owner, name, "branch", branch]:
                self._branch(f"{owner}/{name}", branch)
            case ["api", "models", owner, name, "preupload", *revision]:
                self._preupload(f"{owner}/{name}", "/".join(revision), pull_request="create_pr" in query)
            case ["api", "models", owner, name, "commit", *revision]:
                self._commit(f"{owner}/{name}", "/".join(revision), pull_request="create_pr" in query)
            case [owner, name, "info", "lfs", "objects", "batch"]:
                self._lfs_batch(f"{owner}/{name.removesuffix('.git')}")
            case ["lfs", oid]:
                assert hashlib.sha256(self.body).hexdigest() == oid
                self.hub.blobs[oid] = self.body
                self._send(200, b"")
            case [owner, name, "resolve", revision, *path]:
                self._resolve(f"{owner}/{name}", revision, "/".join(path))
            case _:
                raise _Refusal(404, f"no such endpoint: {'/'.join(parts)}")

    # Who may do what.

    @property
    def _token(self) -> str | None:
        sent = self.headers.get("Authorization")
        return sent.removeprefix("Bearer ") if sent else None

    def _check_token(self) -> None:
        if self._token not in (None, WRITER, READER):
            raise _Refusal(401, "Invalid credentials in Authorization header")

    def _readable(self, repo_id: str) -> Repository:
        self._check_token()
        found = self.hub.repositories.get(repo_id)
        if found is None or (found.private and self._token is None):
            # The real one does not tell strangers which repositories there are.
            raise _Refusal(404 if self._token else 401, "Repository not found", "RepoNotFound" if self._token else None)
        return found

    def _writable(self, repo_id: str, *, pull_request: bool = False) -> Repository:
        if self._token is None:
            raise _Refusal(401, "Invalid username or password.")
        found = self._readable(repo_id)
        if not pull_request and (self._token != WRITER or not repo_id.startswith("me/")):
            raise _Refusal(403, "Forbidden: you must be the owner")
        return found

    def _files(self, repo_id: str, revision: str) -> tuple[str, Files]:
        found = self._readable(repo_id).files_at(revision)
        if found is None:
            raise _Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    # The endpoints.

    def _create(self, wanted: dict[str, Any]) -> None:
        self._check_token()
        if self._token is None:
            raise _Refusal(401, "Invalid username or password.")
        repo_id = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        url = f"{self.hub.endpoint}/{repo_id}"
        if repo_id in self.hub.repositories:
            self._send_json({"error": "You already created this model repo", "url": url}, status=409)
            return
        if self._token != WRITER or not repo_id.startswith("me/"):
            raise _Refusal(403, "You don't have the rights to create a model under this namespace")
        private = wanted.get("visibility") == "private" or wanted.get("private") is True
        self.hub.add(repo_id, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=private)
        self._send_json({"url": url, "name": repo_id})

    def _validate_card(self) -> None:
        refused = self.hub.refuse_card_with
        errors = [] if refused is None else [{"message": refused}]
        self._send_json({"errors": errors, "warnings": []}, status=400 if errors else 200)

    def _info(self, repo_id: str, revision: str) -> None:
        digest, files = self._files(repo_id, revision)
        repository = self.hub.repositories[repo_id]
        told = {"_id": "0" * 24, "id": repo_id, "modelId": repo_id, "sha": digest, "private": repository.private}
        siblings = [{"rfilename": path} for path in files]
        self._send_json({**told, "gated": "manual" if repository.gated else False, "siblings": siblings})

    def _tree(self, repo_id: str, revision: str) -> None:
        entries = []
        for path, content in self._files(repo_id, revision)[1].items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
            if is_lfs(path):
                oid = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
            entries.append(entry)
        self._send_json(entries)

    def _branch(self, repo_id: str, branch: str) -> None:
        repository = self._writable(repo_id)
        if branch in repository.refs:
            raise _Refusal(409, "Reference already exists")
        repository.refs[branch] = repository.refs["main"]
        self._send_json({})

    def _preupload(self, repo_id: str, revision: str, *, pull_request: bool) -> None:
        self._writable(repo_id, pull_request=pull_request)
        files = self._files(repo_id, revision)[1]
        answer = []
        for wanted in json.loads(self.body)["files"]:
            path = wanted["path"]
            mode = "lfs" if is_lfs(path) else "regular"
            entry = {"path": path, "uploadMode": mode, "shouldIgnore": False}
            if path in files:
                content = files[path]
                entry["oid"] = hashlib.sha256(content).hexdigest() if mode == "lfs" else git_oid(content)
            answer.append(entry)
        self._send_json({"files": answer})

    def _lfs_batch(self, repo_id: str) -> None:
        self._readable(repo_id)
        objects = [
            {**wanted, "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{wanted['oid']}", "header": {}}}}
            for wanted in json.loads(self.body)["objects"]
        ]
        self._send_json({"transfer": "basic", "objects": objects})

    def _commit(self, repo_id: str, revision: str, *, pull_request: bool) -> None:
        repository = self._writable(repo_id, pull_request=pull_request)
        self._files(repo_id, revision)
        summary, files = "", {}
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                summary = value["summary"]
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        ref = "refs/pr/1" if pull_request else revision
        digest = repository.commit(files, ref=ref, message=summary, onto=revision)
        answer = {"success": True, "commitOid": digest, "commitUrl": f"{self.hub.endpoint}/{repo_id}/commit/{digest}"}
        if pull_request:
            answer["pullRequestUrl"] = f"{self.hub.endpoint}/{repo_id}/discussions/1"
        self._send_json(answer)

    def _resolve(self, repo_id: str, revision: str, path: str) -> None:
        digest, files = self._files(repo_id, revision)
        headers = {"X-Repo-Commit": digest}
        if self.hub.repositories[repo_id].gated and self._token is None:
            raise _Refusal(401, "Access to this model is restricted.", "GatedRepo")
        if path not in files:
            raise _Refusal(404, "Entry not found", "EntryNotFound")
        content = files[path]
        etag = hashlib.sha256(content).hexdigest() if is_lfs(path) else git_oid(content)
        if is_lfs(path):
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        self._send(200, content, {**headers, "ETag": f'"{etag}"'})

    def _send_json(self, content: Any, *, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
