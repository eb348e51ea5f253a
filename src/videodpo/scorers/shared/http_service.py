"""Client of a scoring service over HTTP. docs/http-scorer.md has the contract."""

from __future__ import annotations

import base64
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from videodpo.config.errors import InputError, RunError
from videodpo.config.section import PositiveReal, Section
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import Backbone, BatchFailed, Part, Unavailable
from videodpo.storage.clips import file_of, read_content

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

CONTRACT = 1
_ENVIRONMENT = "env:"
_CONTENT_FAULTS = {400, 413, 415, 422}  # the service refuses these clips; another batch may be fine
_BUSY = {429, 502, 503, 504}
_LONGEST_DELAY = 60.0  # seconds
_MOST_ERRORS = 3  # clips in a row for which the service has an internal error, until it counts as broken
_SHOWN = 200  # characters of the service's own words in a message

Entry = dict[str, Any]


class ServiceOptions(Section):
    """Address of the service, and how clips are sent. Dimensions with equal values share one request for each clip."""

    url: str = Field(..., pattern=r"^(https?://.+|env:[A-Za-z_][A-Za-z0-9_]*)$")
    """Address that takes the requests, with http:// or https://, or `env:NAME`: the environment variable with it."""
    version: str = Field(..., pattern=r"^[\x21-\x7e]{1,100}$")
    """Version that the service must state in each answer, without spaces. Another version scores all clips anew."""
    send: Literal["bytes", "path"] = "bytes"
    """Send each clip's file, or its absolute path on a file system that the service shares."""
    batch_size: int = Field(8, ge=1)
    """Clips per request."""
    time_limit: PositiveReal = 300.0
    """Seconds until a request counts as failed."""
    retries: Annotated[int, Field(ge=0)] = 5
    """Number of times that a failed request is repeated."""
    retry_delay: PositiveReal = 1.0
    """Seconds before the first repetition; doubled for each further one, at most 60."""


class _Failed(Exception):
    """A request failed for a reason that may pass."""


class _InternalError(_Failed):
    """The service runs, but it has an error with these clips."""


class Service(Backbone):
    """A scoring service. A clip has one part; its answer is the service's entry for it."""

    def __init__(self, options: str) -> None:
        """Read the address.

        Args:
            options: the settings `ServiceOptions` as JSON, so that `shared` can compare them.

        Raises:
            InputError: the environment variable with the address is not set.
        """
        import requests

        self._options, self._session = ServiceOptions.model_validate_json(options), requests.Session()
        self._num_errors = 0  # clips in a row
        self._url = self._options.url
        if self._url.startswith(_ENVIRONMENT):
            name = self._url.removeprefix(_ENVIRONMENT)
            self._url = os.environ.get(name, "")
            if not self._url:
                raise InputError(f"url: the environment variable {name} is not set; set it to the service's address")

    def batch_size(self, height: int, width: int) -> int:
        return self._options.batch_size

    def num_parts(self, clip: Clip) -> int:
        return 1

    def refuse(self, clip: Clip) -> None:
        if clip.path is None:
            raise InputError("the clip has no file to send to the service")

    def outputs(self, parts: Sequence[Part]) -> list[Entry]:
        document = {"contract": CONTRACT, "clips": [self._describe(clip) for clip, _ in parts]}
        body = self._body(document, len(parts))
        self._num_errors = 0
        if not isinstance(body, dict) or not isinstance(body.get("version"), str):
            raise InputError("the service's answer has no version; docs/http-scorer.md has the contract")
        if body["version"] != self._options.version:
            raise RunError(
                f"{self._url}: the service has version {_clean(body['version'])!r}, the option `version` is "
                f"{self._options.version!r}; start that version, or change the option, which scores all clips anew"
            )
        entries = body.get("scores")
        if not isinstance(entries, list) or len(entries) != len(parts):
            count = len(entries) if isinstance(entries, list) else "no"
            raise InputError(f"the service gave {count} scores for {len(parts)} clips")
        if not all(isinstance(entry, dict) for entry in entries):
            raise InputError("the service's scores are no objects; docs/http-scorer.md has the contract")
        return entries

    def _describe(self, clip: Clip) -> dict[str, Any]:
        assert clip.path is not None
        about: dict[str, Any] = {"prompt": clip.prompt, "fps": clip.fps}
        if self._options.send == "bytes":
            try:
                return about | {"video": base64.b64encode(read_content(clip.path)).decode("ascii")}
            except OSError as error:
                raise Unavailable(f"{clip.path.name}: {error.strerror or error}") from error
        if file_of(clip.path) != clip.path:
            raise RunError(
                f"send: 'path', but {clip.path} is in a tar file; use `send: bytes` or `clip_storage: files`"
            )
        return about | {"path": str(clip.path.absolute())}

    def _body(self, document: dict[str, Any], num_clips: int) -> Any:
        """Return the service's answer as parsed JSON; repeat a request that failed for a reason that may pass."""
        delay = float(self._options.retry_delay)
        for tries_left in reversed(range(self._options.retries + 1)):
            try:
                return self._request(document)
            except _Failed as error:
                internal = isinstance(error, _InternalError)
                if internal and num_clips > 1:
                    raise BatchFailed(str(error)) from error
                if not tries_left:
                    self._num_errors += internal
                    if internal and self._num_errors < _MOST_ERRORS:
                        raise Unavailable(str(error)) from error
                    what = f"{error}, {self._options.retries + 1} times"
                    what += f" each for {self._num_errors} clips in a row" * internal
                    raise RunError(
                        f"{self._url}: {what}; check the service, and start the run again: finished scores are kept"
                    ) from error
                log.warning("%s: %s; repeated in %g s (%d left)", self._url, error, delay, tries_left)
                time.sleep(delay)
                delay = min(2 * delay, _LONGEST_DELAY)
        raise AssertionError

    def _request(self, document: dict[str, Any]) -> Any:
        import requests
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        limit = float(self._options.time_limit)
        start = time.monotonic()
        try:
            with self._session.post(
                self._url, json=document, timeout=limit, stream=True, allow_redirects=False
            ) as response:
                # The limit of `requests` is per read, so a service that sends a byte now and then would never end.
                content = b""
                while chunk := response.raw.read1(2**16, decode_content=True):
                    content += chunk
                    if time.monotonic() - start > limit:
                        raise requests.Timeout
        except (requests.Timeout, ReadTimeoutError) as error:
            raise _Failed(f"no complete answer in {limit:g} s (time_limit)") from error
        except requests.ConnectionError as error:
            raise _Failed("no connection") from error
        except HTTPError as error:
            raise _Failed("the connection ended within the answer") from error
        except requests.RequestException as error:
            raise RunError(f"{self._url}: {error}; check the option `url`") from error
        return _parsed(response, content, self._url)


def _parsed(response: requests.Response, content: bytes, url: str) -> Any:
    status = f"the service answered {response.status_code} {_clean(response.reason or '')}".strip()
    if response.status_code in _BUSY:
        raise _Failed(status)
    words = _clean(content.decode("utf-8", errors="replace"))
    if response.status_code == 500:
        raise _InternalError(f"{status}: {words}")
    if response.status_code in _CONTENT_FAULTS:
        raise InputError(f"{status}: {words}")
    if response.status_code != 200:
        raise RunError(f"{url}: {status}: {words}; check the option `url`, and what the service takes")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the service's answer is not JSON: {words!r}") from error


def _clean(text: str) -> str:
    """Shorten a service's own words, and drop what a terminal would interpret."""
    words = " ".join(text.split())
    return "".join(letter for letter in words if letter.isprintable())[:_SHOWN]


def value_of(entry: Entry, name: str) -> float:
    """Return one value of the service's entry for a clip.

    Raises:
        InputError: the service could not score the clip, or the entry has no such number.
    """
    if (reason := entry.get("error")) is not None:
        raise InputError(f"the service could not score the clip: {_clean(str(reason))}")
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        there = _clean(", ".join(sorted(map(str, entry)))) or "nothing"
        raise InputError(f"the service gave no finite number {name!r} for the clip; its entry has {there}")
    return float(value)
