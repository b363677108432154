# SPDX-License-Identifier: Apache-2.0
"""The real gateway fuzzed from its own OpenAPI description: by strangers, and by the buyer of its job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from requests.auth import AuthBase
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from gpubond.jobs.requests import part_content, sign

from .gateway_process import Door, open_door

# Requests for each operation and kind of sender: about 350 in all.
EXAMPLES = 25
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
# Schemathesis leaves the description itself out.
OPERATIONS = ("health", "software", "status", "upload", "parts", "download", "public", "manifest", "logs", "cancel")


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(tmp_path_factory.mktemp("gateway"), inputs={"data.bin": bytes(1000)}) as door:
        yield door


@pytest.fixture(scope="module")
def api(door: Door) -> Any:
    return schemathesis.openapi.from_url(f"{door.url}/openapi.json")


class Signed(AuthBase):
    """Signs what is really sent, as the buyer's client would."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        door, headers = self._door, request.headers
        content = part_content(headers.get("Content-Range"), headers.get("Content-Digest"))
        headers["Authorization"] = sign(
            door.buyer, door.domain, str(request.method), request.path_url, door.job, content
        )
        return request


def operation_of(api: Any, name: str) -> Any:
    found = (result.ok() for result in api.get_all_operations())
    return next(operation for operation in found if operation.definition.raw["operationId"] == name)


def test_the_description_lists_every_operation(api: Any) -> None:
    names = {result.ok().definition.raw["operationId"] for result in api.get_all_operations()}
    assert names == set(OPERATIONS)


@pytest.mark.parametrize("who", ["stranger", "buyer"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_answer_is_one_that_the_description_names(door: Door, api: Any, name: str, who: str) -> None:
    answered: set[int] = set()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation_of(api, name).as_strategy())
    def fuzz(case: Any) -> None:
        arguments: dict[str, Any] = {"timeout": 60}
        if who == "buyer":
            if "job" in (case.path_parameters or {}):
                case.path_parameters["job"] = "0x" + door.job.hex()
            if name == "upload" and len(answered) % 2:
                case.path_parameters["sha256"] = door.spec_hash
            arguments["auth"] = Signed(door)
            if name == "logs":
                case.query["wait"] = 0  # else each request may be held for seconds
        else:
            (case.headers or {}).pop("Authorization", None)
        answer = case.call_and_validate(base_url=door.url, checks=CHECKS, **arguments)
        answered.add(answer.status_code)

    fuzz()
    assert answered
    if who == "stranger" and name not in ("health", "software"):
        assert answered <= {400, 401, 404, 429}


def test_nothing_of_it_left_a_trace(door: Door) -> None:
    assert httpx.get(f"{door.url}/healthz").json()["ok"] is True
    with door.client() as client:
        assert client.status()["missing"] == [door.spec_hash]
    assert "Traceback" not in (door.home / "worker.log").read_text()
