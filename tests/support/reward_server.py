"""A scoring service in a process of its own, which answers well or badly, as the path of the address says.

Started as a script, it prints its port. `GET /requests` returns the number of clips of each request so far, by path.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

VERSION = "2.1"
POISON = "poison"  # a prompt for which the service has no score


class Handler(BaseHTTPRequestHandler):
    requests: ClassVar[dict[str, list[int]]] = {}

    def do_GET(self) -> None:
        self.reply(200, Handler.requests)

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        clips = document["clips"]
        seen = Handler.requests.setdefault(self.path, [])
        seen.append(len(clips))
        name = self.path.strip("/")
        poisoned = any(clip["prompt"] == POISON for clip in clips)
        answer: dict[str, Any] = {"version": VERSION, "scores": [score(clip) for clip in clips]}
        match name:
            case "dies" if len(seen) > 2:
                os._exit(1)
            case "slow":
                time.sleep(3)
            case "drips":  # a byte now and then, for longer than any limit
                self.send_response(200)
                self.end_headers()
                for _ in range(30):
                    self.wfile.write(b" ")
                    time.sleep(0.1)
                return None
            case "half":
                content = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                return self.wfile.write(content[: len(content) // 2]) and None
            case "busy" if len(seen) < 3:
                return self.reply(503, {})
            case "overloaded":
                return self.reply(503, {})
            case "crashes" if poisoned:
                return self.reply(500, {"detail": "index out of\n\x1b[31mrange"})
            case "broken":
                return self.reply(500, {"detail": "no model"})
            case "refuses" if poisoned:
                return self.reply(422, {"detail": "cannot decode"})
            case "absent":
                return self.reply(404, {})
            case "moved":
                return self.reply(302, {})
            case "old":
                answer["version"] = "2.0"
            case "unversioned":
                del answer["version"]
            case "fewer":
                answer["scores"] = answer["scores"][:-1]
            case "text":
                return self.reply(200, "<html>hello")
            case "list":
                answer["scores"] = [1.0] * len(clips)
            case "nan":
                answer["scores"] = [{"score": float("nan")} for _ in clips]
            case "huge":
                answer["scores"] = [{"score": 10**400} for _ in clips]
            case "words":
                answer["scores"] = [{"score": "high"} for _ in clips]
        return self.reply(200, answer)

    def reply(self, status: int, answer: Any) -> None:
        content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if status == 302:
            self.send_header("Location", "/good")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def score(clip: dict[str, Any]) -> dict[str, Any]:
    """Scores that follow from what was sent: length of the prompt, bytes of the file, frames per second."""
    if clip["prompt"] == POISON:
        return {"error": "too dark\n\x1b[31mto see"}
    content = base64.b64decode(clip["video"]) if "video" in clip else Path(clip["path"]).read_bytes()
    return {"score": len(clip["prompt"]), "size": len(content), "fps": clip["fps"], "by_path": "path" in clip}


@contextmanager
def running() -> Iterator[str]:
    """Run the service; give its address."""
    with subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def requests_to(address: str) -> dict[str, list[int]]:
    """Numbers of clips of the requests so far, by path."""
    with urllib.request.urlopen(f"{address}/requests", timeout=30) as answer:
        found: dict[str, list[int]] = json.load(answer)
    return found


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
