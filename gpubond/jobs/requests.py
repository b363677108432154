# SPDX-License-Identifier: Apache-2.0
"""Requests to a provider's gateway, signed by the wallet of the job's buyer.

Each request carries `Authorization: GpuBond <base64url JSON>` with the EIP-712 message

    Request(string method, string path, bytes32 job, bytes32 nonce, uint64 expires)

under the domain {name "GpuBond Gateway", version "1", chainId, verifyingContract: the escrow}. The
path names the blob by its SHA-256, so a body is bound as well: what hashes otherwise is refused.
A signature is good for one request (nonce) and for at most `MAX_AGE` seconds (expires).
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount

from gpubond.errors import GpuBondError

SCHEME = "GpuBond"

# Seconds. Long enough for clocks that differ by some minutes, short enough to remember every nonce.
MAX_AGE = 600
LIFETIME = 300
MAX_NONCES = 100_000

_TYPES = {
    "Request": [
        {"name": "method", "type": "string"},
        {"name": "path", "type": "string"},
        {"name": "job", "type": "bytes32"},
        {"name": "nonce", "type": "bytes32"},
        {"name": "expires", "type": "uint64"},
    ]
}


class Unauthorized(GpuBondError):
    """The request is not signed as it must be."""

    code = "unauthorized"


@dataclass(frozen=True)
class Domain:
    """Which escrow on which chain a signature is for."""

    chain_id: int
    escrow: str

    def as_dict(self) -> dict[str, Any]:
        """The EIP-712 domain."""
        return {
            "name": "GpuBond Gateway",
            "version": "1",
            "chainId": self.chain_id,
            "verifyingContract": self.escrow,
        }


def sign(account: LocalAccount, domain: Domain, method: str, path: str, job: bytes) -> str:
    """The value of the Authorization header for one request."""
    message = {
        "method": method,
        "path": path,
        "job": job,
        "nonce": secrets.token_bytes(32),
        "expires": int(time.time()) + LIFETIME,
    }
    signed = account.sign_message(encode_typed_data(domain.as_dict(), _TYPES, message))
    body = {
        "job": job.hex(),
        "nonce": message["nonce"].hex(),  # type: ignore[attr-defined]
        "expires": message["expires"],
        "signature": bytes(signed.signature).hex(),
    }
    return f"{SCHEME} {base64.urlsafe_b64encode(json.dumps(body).encode()).decode()}"


class Verifier:
    """Checks who signed a request; each signature counts once. Thread-safe."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._seen: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def check(self, header: str | None, method: str, path: str, job: bytes, signer: str) -> None:
        """Passes a request that `signer` signed for just this job, method and path.

        Args:
            header: the Authorization header, if there was one.
            method: the request's method, upper case.
            path: the request's path with its query, as it was sent.
            job: the id of the job in the path.
            signer: the checksum address of the job's buyer.

        Raises:
            Unauthorized: missing, malformed, expired, replayed, by somebody else, or for another job.
        """
        if header is None or not header.startswith(f"{SCHEME} "):
            raise Unauthorized("the request is not signed", remedy="sign it with the buyer's key")
        if len(header) > 1024:
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
            raise Unauthorized(
                "the signature has expired or is dated too far ahead",
                field="expires",
                value=expires,
                remedy=f"set the clock; the gateway's says {now} (Unix seconds)",
            )
        message = {"method": method, "path": path, "job": job, "nonce": nonce, "expires": expires}
        try:
            recovered = Account.recover_message(
                encode_typed_data(self._domain.as_dict(), _TYPES, message), signature=signature
            )
        except Exception:  # eth-keys and eth-account raise several unrelated classes for a bad signature
            raise Unauthorized("the signature is not valid") from None
        if recovered != signer:
            raise Unauthorized("the signature is not that of the job's buyer")
        # Only now, so that strangers cannot fill the memory of nonces.
        self._use_up(nonce, expires, now)

    def _use_up(self, nonce: bytes, expires: int, now: int) -> None:
        with self._lock:
            if nonce in self._seen:
                raise Unauthorized("the signature was used before", remedy="sign each request anew")
            if len(self._seen) >= MAX_NONCES:
                self._seen = {seen: until for seen, until in self._seen.items() if until >= now}
                if len(self._seen) >= MAX_NONCES:
                    raise Unauthorized("too many requests", remedy="try again in some minutes")
            self._seen[nonce] = expires
