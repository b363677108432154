# SPDX-License-Identifier: Apache-2.0
"""Requests to a provider's gateway, signed by the wallet of the job's buyer.

Each request carries `Authorization: GpuBond <base64url JSON>` with the EIP-712 message

    Request(string method, string path, string content, bytes32 job, bytes32 nonce, uint64 expires)

under the domain {name "GpuBond Gateway", version "2", chainId, verifyingContract: the escrow}. The
path names the blob by its SHA-256, so a body is bound as well: what hashes otherwise is refused. `content` is
empty, or binds one part of a blob: the values of the headers Content-Range and Content-Digest, with a line
feed between. A signature is good for one request (nonce) and for at most `MAX_AGE` seconds (expires).
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount

from gpubond.errors import GpuBondError
from gpubond.jobs.nonces import NonceLog, NoncesFull, Replayed

SCHEME = "GpuBond"

# Seconds. Long enough for clocks that differ by some minutes, short enough to remember every nonce.
MAX_AGE = 600
LIFETIME = 300
# Bytes of the Authorization header.
MAX_HEADER = 1024

# Requests that change nothing: losing power may let one of them be repeated.
_READS = ("GET", "HEAD")

_TYPES = {
    "Request": [
        {"name": "method", "type": "string"},
        {"name": "path", "type": "string"},
        {"name": "content", "type": "string"},
        {"name": "job", "type": "bytes32"},
        {"name": "nonce", "type": "bytes32"},
        {"name": "expires", "type": "uint64"},
    ]
}


class Unauthorized(GpuBondError):
    """The request is not signed as it must be."""

    code = "unauthorized"


class TooManyRequests(GpuBondError):
    """The gateway takes no more of these now. `retry_after`: seconds after which to try again."""

    code = "too_many_requests"

    def __init__(self, message: str, retry_after: int, **details: Any) -> None:
        super().__init__(message, remedy=f"try again after {retry_after} s", **details)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Domain:
    """Which escrow on which chain a signature is for."""

    chain_id: int
    escrow: str

    def as_dict(self) -> dict[str, Any]:
        """The EIP-712 domain."""
        return {
            "name": "GpuBond Gateway",
            "version": "2",
            "chainId": self.chain_id,
            "verifyingContract": self.escrow,
        }


def sign(
    account: LocalAccount, domain: Domain, method: str, path: str, job: bytes, content: str = "", ahead: int = 0
) -> str:
    """The value of the Authorization header for one request.

    Args:
        path: the request's path with its query, as it is sent.
        content: see `part_content`; empty but for parts.
        ahead: seconds by which the gateway's clock is ahead of this machine's.
    """
    message = {
        "method": method,
        "path": path,
        "content": content,
        "job": job,
        "nonce": secrets.token_bytes(32),
        "expires": int(time.time()) + ahead + LIFETIME,
    }
    signed = account.sign_message(encode_typed_data(domain.as_dict(), _TYPES, message))
    body = {
        "job": job.hex(),
        "nonce": message["nonce"].hex(),  # type: ignore[attr-defined]
        "expires": message["expires"],
        "signature": bytes(signed.signature).hex(),
    }
    return f"{SCHEME} {base64.urlsafe_b64encode(json.dumps(body).encode()).decode()}"


def part_content(content_range: str | None, content_digest: str | None) -> str:
    """What a request for one part of a blob is signed for: its two header values."""
    return "" if content_range is None and content_digest is None else f"{content_range or ''}\n{content_digest or ''}"


class Verifier:
    """Checks who signed a request; each signature counts once. Thread-safe.

    Args:
        domain: which chain and escrow.
        nonces: what remembers them; by default in memory, until the process ends.
    """

    def __init__(self, domain: Domain, nonces: NonceLog | None = None) -> None:
        self._domain = domain
        self._nonces = nonces if nonces is not None else NonceLog(None, max_age=MAX_AGE)

    def check(self, header: str | None, method: str, path: str, job: bytes, signer: str, content: str = "") -> None:
        """Passes a request that `signer` signed for just this job, method, path and content.

        Args:
            header: the Authorization header, if there was one.
            method: the request's method, upper case.
            path: the request's path with its query, as it was sent.
            job: the id of the job in the path.
            signer: the checksum address of the job's buyer.
            content: see `part_content`.

        Raises:
            Unauthorized: missing, malformed, expired, replayed, by somebody else, or for another job.
            TooManyRequests: no further nonce can be remembered now.
        """
        if header is None or not header.startswith(f"{SCHEME} "):
            raise Unauthorized("the request is not signed", remedy="sign it with the buyer's key")
        if len(header) > MAX_HEADER:
            raise Unauthorized("the Authorization header is too long")
        try:
            body = json.loads(base64.urlsafe_b64decode(header[len(SCHEME) + 1 :]))
            claimed_job = bytes.fromhex(body["job"])
            nonce = bytes.fromhex(body["nonce"])
            expires = body["expires"]
            signature = bytes.fromhex(body["signature"])
        except (ValueError, KeyError, TypeError, binascii.Error, RecursionError):
            raise Unauthorized("the Authorization header is malformed") from None
        if type(expires) is not int or len(nonce) != 32 or len(signature) != 65:
            raise Unauthorized("the Authorization header is malformed")
        if claimed_job != job:
            raise Unauthorized("the signature is for another job")
        now = int(time.time())
        if not now <= expires <= now + MAX_AGE:
            late = expires < now
            raise Unauthorized(
                f"the signature expired {now - expires} s ago by the gateway's clock"
                if late
                else f"the signature is good for {expires - now} s by the gateway's clock; {MAX_AGE} s are the most",
                field="expires",
                value=expires,
                remedy=f"sign it now; if it was, your clock or the gateway's is {'behind' if late else 'ahead'}: "
                f"the gateway's says {now} (Unix seconds)",
            )
        message = {
            "method": method,
            "path": path,
            "content": content,
            "job": job,
            "nonce": nonce,
            "expires": expires,
        }
        try:
            recovered = Account.recover_message(
                encode_typed_data(self._domain.as_dict(), _TYPES, message), signature=signature
            )
        except Exception:  # eth-keys and eth-account raise several unrelated classes for a bad signature
            raise Unauthorized("the signature is not valid") from None
        if recovered != signer:
            raise Unauthorized("the signature is not that of the job's buyer")
        # Only now, so that strangers cannot fill the memory of nonces.
        self._use_up(signer, nonce, expires, now, durable=method not in _READS)

    def _use_up(self, signer: str, nonce: bytes, expires: int, now: int, *, durable: bool) -> None:
        try:
            self._nonces.use(bytes.fromhex(signer.removeprefix("0x")), nonce, expires, now, durable=durable)
        except Replayed:
            raise Unauthorized("the signature was used before", remedy="sign each request anew") from None
        except NoncesFull as error:
            whose = "you sent" if error.of_signer else "this gateway got"
            raise TooManyRequests(f"{whose} too many requests in the last minutes", 60) from None
        except OSError:
            raise TooManyRequests("the gateway cannot write down that the signature was used", 60) from None
