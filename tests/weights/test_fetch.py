"""Fetching through real HTTP from a server of our own, which speaks as much of the model hub's protocol as is used."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from videodpo.weights.catalogue import PublishedFile, PublishedRepository, catalogue
from videodpo.weights.fetch import damaged, fetch
from videodpo.weights.locations import read_manifest, resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "an-organisation/a-model"
PLACE = f"hub:{REPOSITORY}@{COMMIT}"
LARGE, SMALL = b"tensors" * 1000, b'{"hidden_size": 3}'


class Server(http.server.ThreadingHTTPServer):
    """`files`: path to content; `asked`: paths that were."""

    files: dict[str, bytes]
    asked: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        if body:
            self.server.asked.append(path)
        content = self.server.files.get(path)
        self.send_response(200 if content is not None else 404)
        content = content or b""
        self.send_header("Content-Length", str(len(content)))
        if "/resolve/" in path:
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.files, running.asked = {}, []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VIDEODPO_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def publish(server: Server, monkeypatch, content: bytes, *, promised: bytes, member: str | None = None) -> str:
    server.files["/own.pth"] = content
    sha256 = hashlib.sha256(promised).hexdigest()
    entry = {"what": "own", "url": f"{server.url}/own.pth", "sha256": sha256, "size": len(promised), "licence": "MIT"}
    monkeypatch.setitem(catalogue().files, "own.pth", PublishedFile(**entry, member=member))
    return "public:own.pth"


def test_a_published_file_is_fetched_once(server, monkeypatch, folder):
    location = publish(server, monkeypatch, LARGE, promised=LARGE)
    fetch(location, ())
    fetch(location, ())
    assert resolve(location).read_bytes() == LARGE
    assert server.asked == ["/own.pth"]
    assert [path.name for path in folder.iterdir()] == ["own.pth"]


def test_other_bytes_than_those_published_are_not_kept(server, monkeypatch, folder):
    location = publish(server, monkeypatch, LARGE, promised=LARGE + b"!")
    with pytest.raises(RuntimeError, match=r"own\.pth.*hash"):
        fetch(location, ())
    assert list(folder.iterdir()) == []


def test_a_member_of_an_archive_is_taken_out_and_checked(server, monkeypatch, folder):
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w") as archive:
        archive.writestr("models/own.pth", LARGE)
    location = publish(server, monkeypatch, box.getvalue(), promised=LARGE, member="models/own.pth")
    fetch(location, ())
    assert resolve(location).read_bytes() == LARGE
    assert [path.name for path in folder.iterdir()] == ["own.pth"]
    location = publish(server, monkeypatch, box.getvalue(), promised=LARGE + b"!", member="models/own.pth")
    with pytest.raises(RuntimeError, match=r"sha256 .* published is"):
        fetch(location, ())


def test_no_network_is_an_error_that_names_the_address(server, monkeypatch):
    location = publish(server, monkeypatch, LARGE, promised=LARGE)
    server.files.clear()
    with pytest.raises(RuntimeError, match=r"127\.0\.0\.1.*404"):
        fetch(location, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda b: b[:-1], "6,999 bytes, published are 7,000"), (lambda b: b"T" + b[1:], "sha256"), (None, "missing")],
)
def test_verify_finds_what_changed_on_disk(server, monkeypatch, change, message):
    location = publish(server, monkeypatch, LARGE, promised=LARGE)
    fetch(location, ())
    assert list(damaged(location)) == []
    path = resolve(location)
    path.write_bytes(change(LARGE)) if change else path.unlink()
    (problem,) = damaged(location)
    assert message in problem


def hub(server: Server, files: dict[str, bytes]) -> None:
    """The repository with these files; those called .safetensors are large ones to it."""
    siblings = []
    for name, content in files.items():
        server.files[f"/{REPOSITORY}/resolve/{COMMIT}/{name}"] = content
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict = {"rfilename": name, "size": len(content), "blobId": git}
        if name.endswith(".safetensors"):
            entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        siblings.append(entry)
    answer = {"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}
    server.files[f"/api/models/{REPOSITORY}/revision/{COMMIT}"] = json.dumps(answer).encode()


def fetch_from_hub(server: Server, patterns: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub library reads its address when it is imported."""
    code = f"from videodpo.weights.fetch import fetch; fetch({PLACE!r}, {patterns!r})"
    environment = os.environ | {"HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_a_repository_is_fetched_at_its_commit_and_read_from_disk_ever_after(server, folder):
    hub(server, {"part/model.safetensors": LARGE, "config.json": SMALL, "README.md": b"card", "old.bin": b"pickle"})
    answer = fetch_from_hub(server, ("*.safetensors", "*.json"))
    assert answer.returncode == 0, answer.stderr
    location = resolve(PLACE)
    assert (location / "part" / "model.safetensors").read_bytes() == LARGE
    assert (location / "config.json").read_bytes() == SMALL
    assert sorted(read_manifest(PLACE)) == ["config.json", "part/model.safetensors"]
    assert sorted(path.name for path in location.rglob("*")) == ["config.json", "model.safetensors", "part"]
    assert list(damaged(PLACE)) == []
    server.asked.clear()
    assert fetch_from_hub(server, ("*.safetensors", "*.json")).returncode == 0
    assert server.asked == []


@pytest.mark.parametrize("name", ["part/model.safetensors", "config.json"])
def test_other_bytes_than_the_hubs_own_digests_say_are_not_kept(server, folder, name):
    hub(server, {"part/model.safetensors": LARGE, "config.json": SMALL})
    server.files[f"/{REPOSITORY}/resolve/{COMMIT}/{name}"] = b"X" * len({"config.json": SMALL}.get(name, LARGE))
    answer = fetch_from_hub(server, ("*.safetensors", "*.json"))
    assert answer.returncode != 0
    assert "is not that published" in answer.stderr
    assert not any(path.name == Path(name).name for path in folder.rglob("*"))


def test_the_catalogues_digest_counts_before_the_hubs(server, monkeypatch, folder):
    hub(server, {"part/model.safetensors": LARGE})
    files = {"part/model.safetensors": "0" * 64}
    pinned = PublishedRepository(revision=COMMIT, licence="MIT", files=files)
    monkeypatch.setitem(catalogue().repositories, REPOSITORY, pinned)
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    with pytest.raises(RuntimeError, match="is not that published"):
        fetch(PLACE, ("*.safetensors",))


def test_a_repository_without_the_wanted_files_is_an_error(server):
    hub(server, {"old.bin": b"pickle"})
    answer = fetch_from_hub(server, ("*.safetensors",))
    assert "holds none of *.safetensors" in answer.stderr
