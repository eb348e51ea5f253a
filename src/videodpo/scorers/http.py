"""A score that a service computes elsewhere, for example a lab's own reward server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from videodpo.config import Section
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import NetworkScorer
from videodpo.scorers.shared.http_service import Service, ServiceOptions, value_of


class HttpScorer(NetworkScorer):
    """One value of the service's answer. Dimensions whose options differ in `value` only share the requests."""

    version = "1"
    uses_gpu = False
    options_without_effect = frozenset(ServiceOptions.model_fields) - {"version"}

    class Options(NetworkScorer.Options, ServiceOptions):
        """Address of the service, and the value that is read from its answers."""

        value: str = Field("score", min_length=1)
        """Name of the value in the service's answers."""

    @staticmethod
    def service_version(options: Section) -> str | None:
        assert isinstance(options, HttpScorer.Options)
        return options.version

    def __init__(self, options: Section, device: str) -> None:
        assert isinstance(options, HttpScorer.Options)
        self._name = options.value
        self.backbone = Service.shared(options.model_dump_json(include=set(ServiceOptions.model_fields)))

    def value(self, clip: Clip, outputs: Mapping[int, Any]) -> float:
        return value_of(outputs[0], self._name)
