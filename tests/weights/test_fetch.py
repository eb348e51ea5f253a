"""Downloads over real HTTP from a local server with the used part of the model hub's protocol."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from videodpo.config.errors import RunError
from videodpo.weights.catalogue import PublishedFile, PublishedRepository, catalogue
from videodpo.weights.fetch import damaged, fetch, fetch_all
from videodpo.weights.locations import digests, manifest_path, resolve
from videodpo.weights.needed import Needed

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "an-organisation/a-model"
LOCATION = f"hub:{REPOSITORY}@{COMMIT}"
LARGE, SMALL = b"tensors" * 1000, b'{"hidden_size": 3}'


class Server(http.server.ThreadingHTTPServer):
    """`files`: content by path; `asked`: paths of all requests."""

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


def zipped(content: bytes) -> bytes:
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w") as archive:
        archive.writestr("models/own.pth", content)
    return box.getvalue()


@pytest.mark.parametrize("member", [None, "models/own.pth"])
def test_a_published_file_is_fetched_once(server, monkeypatch, folder, member):
    content = zipped(LARGE) if member else LARGE
    location = publish(server, monkeypatch, content, promised=LARGE, member=member)
    fetch(location, ())
    fetch(location, ())
    assert resolve(location).read_bytes() == LARGE
    assert server.asked == ["/own.pth"]
    assert [path.name for path in folder.iterdir()] == ["own.pth"]


@pytest.mark.parametrize("member", [None, "models/own.pth"])
def test_fetched_files_have_the_permissions_of_their_folder(server, monkeypatch, folder, member):
    content = zipped(LARGE) if member else LARGE
    location = publish(server, monkeypatch, content, promised=LARGE, member=member)
    before = os.umask(0o027)
    try:
        fetch(location, ())
    finally:
        os.umask(before)
    assert resolve(location).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("member", [None, "models/own.pth"])
def test_a_download_that_differs_from_the_published_file_is_not_kept(server, monkeypatch, folder, member):
    content = zipped(LARGE) if member else LARGE
    location = publish(server, monkeypatch, content, promised=LARGE + b"!", member=member)
    with pytest.raises(RunError, match=r"own\.pth.*(hash|sha256)"):
        fetch(location, ())
    assert list(folder.iterdir()) == []


def test_a_missing_file_is_an_error_that_names_the_url(server, monkeypatch):
    location = publish(server, monkeypatch, LARGE, promised=LARGE)
    server.files.clear()
    with pytest.raises(RunError, match=r"127\.0\.0\.1.*404"):
        fetch(location, ())


def test_one_failure_does_not_stop_the_others(server, monkeypatch, hub, folder):
    """All other weights are fetched; the error at the end lists the failures and the keys that need them."""
    location = publish(server, monkeypatch, LARGE, promised=LARGE)
    hub({"config.json": SMALL})
    del server.files["/own.pth"]
    missing = f"hub:{REPOSITORY}@{'1' * 40}"
    needed = [
        Needed(location, ("dimensions.own.options",), ()),
        Needed(missing, ("dimensions.other.options",), ("*.json",)),
        Needed(LOCATION, ("model",), ("*.json",)),
    ]
    with pytest.raises(RunError, match="2 of 3 weights could not be fetched") as raised:
        fetch_all(needed)
    assert f"{location} (dimensions.own.options): " in str(raised.value)
    assert f"{missing} (dimensions.other.options): " in str(raised.value)
    assert (resolve(LOCATION) / "config.json").read_bytes() == SMALL


@pytest.mark.parametrize(("content", "message"), [(b"T" + LARGE[1:], "sha256"), (None, "missing")])
def test_verify_finds_what_changed_on_disk_and_fetch_repairs_it(server, monkeypatch, content, message):
    location = publish(server, monkeypatch, LARGE, promised=LARGE)
    fetch(location, ())
    assert list(damaged(location)) == []
    path = resolve(location)
    path.write_bytes(content) if content else path.unlink()
    (problem,) = damaged(location)
    assert message in problem
    fetch(location, ())
    assert list(damaged(location)) == []


@pytest.fixture
def hub(server: Server, monkeypatch) -> Callable[[dict[str, bytes]], None]:
    """Function that publishes a repository with these files; *.safetensors are large files under their SHA-256."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    def publish(files: dict[str, bytes]) -> None:
        tree = []
        for name, content in files.items():
            server.files[f"/{REPOSITORY}/resolve/{COMMIT}/{name}"] = content
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry: dict = {"type": "file", "path": name, "size": len(content), "oid": git}
            if name.endswith(".safetensors"):
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            tree.append(entry)
        server.files[f"/api/models/{REPOSITORY}/tree/{COMMIT}"] = json.dumps(tree).encode()

    return publish


def test_a_repository_is_fetched_once_at_its_commit(server, hub):
    hub({"part/model.safetensors": LARGE, "config.json": SMALL, "README.md": b"card", "old.bin": b"pickle"})
    fetch(LOCATION, ("*.safetensors", "*.json"))
    folder = resolve(LOCATION)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files == {"part/model.safetensors": LARGE, "config.json": SMALL}
    assert list(damaged(LOCATION)) == []
    server.asked.clear()
    fetch(LOCATION, ("*.json",))
    assert digests(LOCATION, ("*.json",)) == {f"{LOCATION}/config.json": hashlib.sha256(SMALL).hexdigest()}
    assert server.asked == []


def test_additional_patterns_add_files_to_a_fetched_repository(hub):
    hub({"part/model.safetensors": LARGE, "config.json": SMALL})
    fetch(LOCATION, ("*.json",))
    fetch(LOCATION, ("*.safetensors",))
    assert sorted(digests(LOCATION)) == [f"{LOCATION}/config.json", f"{LOCATION}/part/model.safetensors"]


@pytest.mark.parametrize("name", ["part/model.safetensors", "config.json"])
def test_a_download_that_differs_from_the_hubs_digests_is_not_kept(server, hub, folder, name):
    hub({"part/model.safetensors": LARGE, "config.json": SMALL})
    server.files[f"/{REPOSITORY}/resolve/{COMMIT}/{name}"] = b"X" * len({"config.json": SMALL}.get(name, LARGE))
    with pytest.raises(RunError, match=f"is not the published one.*{name}"):
        fetch(LOCATION, ("*.safetensors", "*.json"))
    assert not [path for path in folder.rglob("*") if path.name == Path(name).name]


def test_a_digest_of_the_catalogue_is_checked_after_the_download_and_by_verify(hub, monkeypatch):
    hub({"part/model.safetensors": LARGE})
    fetch(LOCATION, ("*.safetensors",))
    pinned = PublishedRepository(revision=COMMIT, licence="MIT", files={"part/model.safetensors": "0" * 64})
    monkeypatch.setitem(catalogue().repositories, REPOSITORY, pinned)
    assert [problem.partition(": ")[2] for problem in damaged(LOCATION)] == ["its sha256 is not the published one"]
    manifest_path(LOCATION).unlink()
    with pytest.raises(RunError, match="is not the published one"):
        fetch(LOCATION, ("*.safetensors",))


def test_a_repository_without_the_requested_files_is_an_error(hub):
    hub({"old.bin": b"pickle"})
    with pytest.raises(RunError, match=r"has none of \*\.safetensors"):
        fetch(LOCATION, ("*.safetensors",))
