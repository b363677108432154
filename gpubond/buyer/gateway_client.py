# SPDX-License-Identifier: Apache-2.0
"""The buyer's side of a provider's gateway: signed requests about one job.

A provider is a stranger: its answers are bounded in size and time, never trusted and never executed. Blobs
travel in parts, several at once (`gpubond.buyer.gateway_parts`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from eth_account.signers.local import LocalAccount

from gpubond.buyer.patience import bound_patience
from gpubond.errors import BadInput, GpuBondError, Refused, Unreachable
from gpubond.jobs.model import read_json
from gpubond.jobs.packages import Software
from gpubond.jobs.requests import Domain, part_content, sign

MAX_ANSWER_BYTES = 8 << 20
# Of JSON: a status names what is missing and what is fetched from where, and a specification has 1 MiB.
MAX_OBJECT_BYTES = 4 << 20
# A worker keeps 8 MiB of a log and a few remarks.
MAX_LOG_BYTES = 64 << 20
# Seconds in which a gateway must have said that it is up.
HEALTH_PATIENCE = 10.0
MAX_HEALTH_BYTES = 16 << 10
MAX_SOFTWARE_BYTES = 512 << 10
# Of a claim that is shown: a figure beyond is none.
MAX_WATTS, MAX_JOBS = 1_000_000, 10**9
# Seconds by which a gateway's clock may differ for requests to be dated by it.
MAX_CLOCK_DIFFERENCE = 86_400
# Requests open at once; the gateway serves 16 of one buyer.
MAX_CONNECTIONS = 8
# Less than a request may take (`gpubond.buyer.patience`).
LOG_WAIT_SECONDS = 20

_CLOCK_TRIES = 2


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
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError):  # ValueError: names that IDNA refuses
        return False


def gateway_note_key(url: str) -> str | None:
    """The key that a gateway names for notes through a buyer's own store; None if it names none, or does not answer."""
    key = _health(url).get("note_key")
    return key if isinstance(key, str) else None


def gateway_software(url: str) -> Software | None:
    """Which Python and packages jobs find at a provider, as its gateway says; None if it does not say."""
    return Software.parse(_public(url, "/v1/software", MAX_SOFTWARE_BYTES))


def gateway_power(url: str, class_name: str) -> tuple[int, int] | None:
    """What a gateway claims of GPUs of a class: average watts, and over how many jobs. None: nothing sensible."""
    claims = _health(url).get("power_by_class")
    for claim in claims if isinstance(claims, list) else []:
        if isinstance(claim, dict) and claim.get("class") == class_name:
            watts, jobs = claim.get("average_watts"), claim.get("jobs")
            if type(watts) is int and type(jobs) is int and 0 <= watts <= MAX_WATTS and 0 < jobs <= MAX_JOBS:
                return watts, jobs
    return None


def _health(url: str) -> dict[str, Any]:
    """What a gateway says of itself; nothing if it does not answer as one."""
    health = _public(url, "/healthz", MAX_HEALTH_BYTES)
    return health if isinstance(health, dict) else {}


def _public(url: str, path: str, most: int) -> Any:
    """What a gateway tells everybody; None if it does not answer, or with more than so many bytes, or no JSON."""
    try:
        with (
            bound_patience(httpx.Client(timeout=5), HEALTH_PATIENCE) as client,
            client.stream("GET", url.rstrip("/") + path, headers={"Accept-Encoding": "identity"}) as response,
        ):
            body = b""
            for piece in response.iter_raw():
                body += piece
                if len(body) > most:
                    return None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError):
        return None
    return _parsed(body)


class Overtaken(Refused):
    """The job has moved on, so that the request has no place any more; its status says where it is."""


class NotSeenYet(GpuBondError):
    """The provider has not seen the job on chain yet: ask again in a moment."""

    code = "not_seen_yet"


class Busy(Refused):
    """The gateway takes no more requests now. `retry_after`: seconds that it asks to wait."""

    code = "gateway_busy"
    retry_after = 1.0


@dataclass(frozen=True)
class LogPiece:
    """Some of a job's log, from byte `offset`.

    size: bytes of the log so far; ended: this is the last piece of a run that is over.
    """

    data: bytes
    offset: int
    size: int
    ended: bool


class GatewayClient:
    """Requests about one job to one gateway. Thread-safe.

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
        self._ahead = 0
        # The environment's proxies are the user's business with the world, redirects the provider's: refused.
        self._client = bound_patience(
            httpx.Client(
                timeout=httpx.Timeout(60, connect=5),
                follow_redirects=False,
                headers={"Accept-Encoding": "identity"},
                limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def status(self) -> dict[str, Any]:
        """Where the job stands on the provider's machine."""
        return self._object(self.path(), "status")

    def cancel(self) -> dict[str, Any]:
        """Asks the provider to stop the job; it notes the wish before it answers. May be repeated."""
        with self.open("POST", self.path("/cancel")) as response:
            return self._decoded(self.read(response, MAX_OBJECT_BYTES), "answer")

    def parts(self, sha256: str) -> dict[str, Any]:
        """Which parts of an input the gateway has: `have` lists first and last byte of each range."""
        return self._object(self.path(f"/blobs/{sha256}/parts"), "list of parts")

    def upload(self, sha256: str, path: Path, on_progress: Any = None) -> None:
        """Sends the specification or an input; goes on where an earlier call broke off. See `upload_blob`."""
        from gpubond.buyer.gateway_parts import upload_blob  # which knows this module

        upload_blob(self, sha256, path, on_progress)

    def download(self, sha256: str, size: int, target: Path, on_progress: Any = None) -> None:
        """Fetches one output into a file; goes on where an earlier call broke off. See `download_blob`."""
        from gpubond.buyer.gateway_parts import download_blob  # which knows this module

        download_blob(self, sha256, size, target, on_progress)

    def manifest(self) -> bytes:
        """The canonical manifest of the outputs; check it against the result root on chain."""
        return self.get(self.path("/manifest"))[0]

    def log_piece(self, offset: int, wait: int = 0) -> LogPiece:
        """Up to 1 MiB of the job's log from a byte offset; if there is none, the gateway waits for it so long."""
        query = f"/logs?offset={offset}" + (f"&wait={wait}" if wait else "")
        data, headers = self.get(self.path(query))
        size = headers.get("gpubond-log-size", "")
        known = int(size) if size.isascii() and size.isdigit() and len(size) < 16 else offset + len(data)
        return LogPiece(data, offset, known, headers.get("gpubond-log-ended") == "?1")

    def follow_logs(self, offset: int = 0, wait: int = LOG_WAIT_SECONDS) -> Iterator[LogPiece]:
        """The log as it grows, until the run has ended; no request while nothing is printed but a waiting one.

        A piece without data comes when nothing was printed for `wait` seconds, so that the caller may look elsewhere;
        one at offset 0 begins the log again, as a run that the worker had to begin again does.

        Raises:
            Refused: the gateway sends more than any worker keeps.
        """
        total = 0
        while True:
            started = time.monotonic()
            piece = self.log_piece(offset, wait)
            total += len(piece.data)
            if total > MAX_LOG_BYTES:
                raise self.nonsense("log: it is too long")
            if not piece.data and piece.size < offset:
                offset = 0
                continue
            if not piece.data and piece.ended:
                return
            yield piece
            offset += len(piece.data)
            if not piece.data and time.monotonic() - started < 1:
                time.sleep(1)  # it does not wait, so we do

    def path(self, rest: str = "") -> str:
        """The path of something of this job."""
        return f"/v1/jobs/0x{self._job.hex()}{rest}"

    def get(self, path: str, most: int = MAX_ANSWER_BYTES) -> tuple[bytes, httpx.Headers]:
        """A short answer, whole, of at most so many bytes, and its headers."""
        with self.open("GET", path) as response:
            return self.read(response, most), response.headers

    def put(self, path: str, content: bytes, headers: dict[str, str]) -> dict[str, Any]:
        """Sends bytes; returns the gateway's JSON."""
        with self.open("PUT", path, content, headers) as response:
            return self._decoded(self.read(response, MAX_OBJECT_BYTES), "answer")

    @contextmanager
    def open(
        self, method: str, path: str, content: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """A signed request, answered without an error; its body is yet to be read.

        If the gateway says that the signature's date is wrong, the request is dated by its clock.
        """
        given = headers or {}
        signed_content = part_content(given.get("Content-Range"), given.get("Content-Digest"))
        try:
            for attempt in range(_CLOCK_TRIES):
                signature = sign(self._account, self._domain, method, path, self._job, signed_content, self._ahead)
                request = self._client.build_request(
                    method, self._url + path, content=content, headers=given | {"Authorization": signature}
                )
                response = self._client.send(request, stream=True)
                try:
                    if response.status_code < httpx.codes.BAD_REQUEST:
                        yield response
                        return
                    body = self.read(response, MAX_OBJECT_BYTES)
                finally:
                    response.close()
                if attempt or not self._take_clock(response, body):
                    raise self._refusal(response, body)
        except httpx.HTTPError as error:
            raise self.unreachable(type(error).__name__) from None
        except httpx.InvalidURL:
            raise self.unreachable("its address is none") from None

    def read(self, response: httpx.Response, most: int) -> bytes:
        """The body, of at most so many bytes."""
        return b"".join(self.pieces(response, most))

    def pieces(self, response: httpx.Response, most: int) -> Iterator[bytes]:
        """The body in pieces, of at most so many bytes together."""
        count = 0
        # Raw: nobody asked for compressed bytes, and a few of them can unpack to any number.
        for piece in response.iter_raw():
            count += len(piece)
            if count > most:
                raise self.nonsense("answer: it is too long")
            yield piece

    def unreachable(self, why: str) -> Unreachable:
        """The gateway does not answer."""
        return Unreachable(
            f"the provider's gateway does not answer ({why})",
            field="gateway",
            value=self._url,
            remedy="nothing is lost: try again; if it stays so until the deadline, `gpubond job expire` refunds you; "
            "a result that is committed already can be demanded on chain: `gpubond job demand`",
        )

    def nonsense(self, what: str) -> Refused:
        """The gateway answers what no worker would."""
        return Refused(
            f"the provider's gateway sent no usable {what}",
            field="gateway",
            value=self._url,
            remedy="try again; if it stays so, hire another provider. After the deadline you are refunded",
        )

    def _object(self, path: str, what: str) -> dict[str, Any]:
        return self._decoded(self.get(path, MAX_OBJECT_BYTES)[0], what)

    def _decoded(self, body: bytes, what: str) -> dict[str, Any]:
        answer = _parsed(body)
        if not isinstance(answer, dict):
            raise self.nonsense(what)
        return answer

    def _take_clock(self, response: httpx.Response, body: bytes) -> bool:
        """Whether the date was all that was wrong; then requests are dated by the gateway's clock from now on."""
        if response.status_code != httpx.codes.UNAUTHORIZED or _shown(body).get("field") != "expires":
            return False
        try:
            theirs = parsedate_to_datetime(response.headers["date"]).timestamp()
        except (KeyError, ValueError, TypeError, OverflowError):
            return False
        ahead = int(theirs - time.time())
        if abs(ahead) > MAX_CLOCK_DIFFERENCE:
            return False
        self._ahead = ahead
        return True

    def _refusal(self, response: httpx.Response, body: bytes) -> GpuBondError:
        status, shown = response.status_code, _shown(body)
        message = str(shown.get("message") or f"HTTP status {status}")[:500]
        field, value, remedy = shown.get("field"), shown.get("value"), shown.get("remedy")
        if status == httpx.codes.NOT_FOUND and field == "job":
            return NotSeenYet(message, field="job", value="0x" + self._job.hex())
        text = f"the provider's gateway refuses: {message}"
        value = (self._url if field is None else None) if value is None else str(value)[:200]
        field = "gateway" if field is None else str(field)[:80]
        remedy = "`gpubond job status` says what is possible until when" if remedy is None else str(remedy)[:500]
        if status == httpx.codes.CONFLICT:
            return Overtaken(text, field=field, value=value, remedy=remedy)
        if status in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
            busy = Busy(text, field=field, value=value, remedy=remedy)
            after = response.headers.get("retry-after", "")
            busy.retry_after = float(after) if after.isascii() and after.isdigit() and len(after) < 6 else 1.0
            return busy
        return Refused(text, field=field, value=value, remedy=remedy)


def _parsed(body: bytes) -> Any:
    """A stranger's JSON; None if it is too deep (which crashes Python's own parser), or none."""
    try:
        return read_json(body, "answer")
    except (BadInput, ValueError):
        return None


def _shown(body: bytes) -> dict[str, Any]:
    """The error in an answer, or nothing."""
    answer = _parsed(body)
    shown = answer.get("error") if isinstance(answer, dict) else None
    return shown if isinstance(shown, dict) else {}
