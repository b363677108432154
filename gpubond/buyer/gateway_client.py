# SPDX-License-Identifier: Apache-2.0
"""The buyer's side of a provider's gateway: signed requests, streamed both ways, verified as they come.

A provider is a stranger: its answers are bounded in size, never trusted and never executed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from eth_account.signers.local import LocalAccount

from gpubond.buyer.patience import bound_patience
from gpubond.errors import BadInput, GpuBondError, JobFailed, Refused, Unreachable
from gpubond.jobs.model import read_json
from gpubond.jobs.requests import Domain, sign

CHUNK_BYTES = 1 << 18
MAX_ANSWER_BYTES = 8 << 20
MAX_OBJECT_BYTES = 1 << 20
# Seconds in which a gateway must have said that it is up.
HEALTH_PATIENCE = 10.0


def gateway_answers(url: str) -> bool:
    """Whether a worker serves at this address now."""
    if not url.startswith(("http://", "https://")):
        return False
    try:
        # Only the status: the body is a stranger's and may have no end.
        with (
            bound_patience(httpx.Client(timeout=5), HEALTH_PATIENCE) as client,
            client.stream("GET", f"{url.rstrip('/')}/healthz") as response,
        ):
            return response.status_code == httpx.codes.OK
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):  # ValueError: names that IDNA refuses
        return False


def _parsed(body: bytes) -> Any:
    """A stranger's JSON; None if it is too long, too deep (which crashes Python's own parser), or none."""
    try:
        return read_json(body, "answer") if len(body) <= MAX_OBJECT_BYTES else None
    except (BadInput, ValueError):
        return None


class NotSeenYet(GpuBondError):
    """The provider has not seen the job on chain yet: ask again in a moment."""

    code = "not_seen_yet"


class GatewayClient:
    """Requests about one job to one gateway.

    Args:
        url: the gateway's address as the provider announced it.
        account: the buyer's key.
        domain: chain and escrow of the job.
        job: the job's id.

    Every method raises Unreachable if the gateway does not answer, NotSeenYet if it does not know the job,
    and Refused with the gateway's own words for any other refusal.
    """

    def __init__(self, url: str, account: LocalAccount, domain: Domain, job: bytes) -> None:
        self._url = url.rstrip("/")
        self._account = account
        self._domain = domain
        self._job = job
        # The environment's proxies are the user's business with the world, redirects the provider's: refused.
        self._client = bound_patience(httpx.Client(timeout=httpx.Timeout(30, connect=5), follow_redirects=False))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def status(self) -> dict[str, Any]:
        """Where the job stands on the provider's machine."""
        return self._object(self._get(self._path()), "status")

    def cancel(self) -> dict[str, Any]:
        """Asks the provider to stop the job; it notes the wish before it answers. May be repeated."""
        return self._object(self._request("POST", self._path("/cancel")), "answer")

    def upload(self, sha256: str, path: Path) -> None:
        """Sends the specification or an input, as a stream."""
        target = self._path(f"/blobs/{sha256}")

        def chunks() -> Iterator[bytes]:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk

        size = str(path.stat().st_size)
        self._request("PUT", target, content=chunks(), headers={"Content-Length": size})

    def manifest(self) -> bytes:
        """The canonical manifest of the outputs; check it against the result root on chain."""
        return self._get(self._path("/manifest"))

    def logs(self, offset: int) -> bytes:
        """Up to 1 MiB of the job's log from a byte offset; empty at the end."""
        return self._get(self._path(f"/logs?offset={offset}"))

    def download(self, sha256: str, size: int, target: Path) -> None:
        """Fetches one output into a file; nothing is left at `target` unless it has that size and hash.

        Raises:
            JobFailed: the gateway sent other bytes than it committed to.
        """
        path = self._path(f"/blobs/{sha256}")
        partial = target.with_name(target.name + ".part")
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, received = hashlib.sha256(), 0
        try:
            with (
                self._stream("GET", path) as response,
                partial.open("wb") as file,
            ):
                if response.status_code != httpx.codes.OK:
                    self._check(response.status_code, self._bounded(response))
                for chunk in response.iter_bytes(CHUNK_BYTES):
                    received += len(chunk)
                    if received > size:
                        break
                    digest.update(chunk)
                    file.write(chunk)
            if received != size or digest.hexdigest() != sha256:
                raise JobFailed(
                    "the gateway sent other bytes than the provider committed to",
                    field="output",
                    value=target.name,
                    remedy="fetch again; do not release the payment while this stays so",
                )
            partial.replace(target)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        finally:
            partial.unlink(missing_ok=True)

    def _path(self, rest: str = "") -> str:
        return f"/v1/jobs/0x{self._job.hex()}{rest}"

    def _headers(self, method: str, path: str) -> dict[str, str]:
        return {"Authorization": sign(self._account, self._domain, method, path, self._job)}

    def _stream(self, method: str, path: str) -> Any:
        return self._client.stream(method, self._url + path, headers=self._headers(method, path))

    def _get(self, path: str) -> bytes:
        return self._request("GET", path)

    def _request(self, method: str, path: str, **arguments: Any) -> bytes:
        headers = self._headers(method, path) | arguments.pop("headers", {})
        try:
            with self._client.stream(method, self._url + path, headers=headers, **arguments) as response:
                body = self._bounded(response)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        self._check(response.status_code, body)
        return body

    def _bounded(self, response: httpx.Response) -> bytes:
        body = b""
        for chunk in response.iter_bytes(CHUNK_BYTES):
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise self._nonsense("answer: it is too long")
        return body

    def _check(self, status: int, body: bytes) -> None:
        if status < httpx.codes.BAD_REQUEST:
            return
        try:
            shown = _parsed(body)["error"]
            message, remedy = str(shown["message"])[:500], shown.get("remedy")
            field, value = shown.get("field"), shown.get("value")
        except (KeyError, TypeError, AttributeError):
            message, remedy, field, value = f"HTTP status {status}", None, None, None
        if status == httpx.codes.NOT_FOUND and field == "job":
            raise NotSeenYet(message, field="job", value="0x" + self._job.hex())
        raise Refused(f"the provider's gateway refuses: {message}", field=field, value=value, remedy=remedy)

    def _object(self, body: bytes, what: str) -> dict[str, Any]:
        answer = _parsed(body)
        if not isinstance(answer, dict):
            raise self._nonsense(what)
        return answer

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        return Unreachable(
            f"the provider's gateway does not answer ({type(error).__name__})",
            field="gateway",
            value=self._url,
            remedy="nothing is lost: try again; if it stays so until the deadline, `gpubond job expire` refunds you",
        )

    def _nonsense(self, what: str) -> Refused:
        return Refused(f"the provider's gateway sent no usable {what}", field="gateway", value=self._url)
