# SPDX-License-Identifier: Apache-2.0
"""The connection to an RPC node: time limits, and failures in words."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlsplit

import requests
from hexbytes import HexBytes
from web3 import HTTPProvider, Web3
from web3.exceptions import BlockNotFound, Web3RPCError
from web3.middleware import ExtraDataToPOAMiddleware
from web3.providers.rpc.utils import ExceptionRetryConfiguration
from web3.types import LogReceipt, RPCEndpoint, RPCResponse

from gpubond.chain.addresses import checksummed
from gpubond.errors import BadSettings, Unreachable

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 30.0
RETRIES = 3


class TimedOut(Unreachable):
    """The node took the request but gave no answer in time: perhaps the request was too large."""


def redact(url: str) -> str:
    """An RPC URL fit for logs: providers put API keys into its path, query or user part."""
    parts = urlsplit(url)
    host = parts.hostname or "?"
    if ":" in host:
        host = f"[{host}]"
    port = f":{parts.port}" if parts.port else ""
    hidden = "/…" if parts.path.strip("/") or parts.query else ""
    return f"{parts.scheme}://{host}{port}{hidden}"


def raw_logs(node: Web3, query: dict[str, Any]) -> list[LogReceipt]:
    """`eth_getLogs` without web3's formatters, which take a third of the time of a long history.

    Args:
        node: from `connect`.
        query: JSON-ready.

    Raises:
        Web3RPCError: the node refuses.
        Unreachable: no answer, or none that is one.
    """
    answer = node.provider.make_request(RPCEndpoint("eth_getLogs"), [query])
    if "error" in answer:
        raise Web3RPCError(str(answer["error"]), rpc_response=answer)
    try:
        return [_log(raw) for raw in answer["result"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreachable(
            f"the node answers eth_getLogs with something else ({type(error).__name__})",
            field="node",
            remedy="try again, or name another node in [chain]",
        ) from None


def _log(raw: dict[str, Any]) -> LogReceipt:
    return cast(
        LogReceipt,
        {
            "address": checksummed(raw["address"]),
            "topics": [HexBytes(topic) for topic in raw["topics"]],
            "data": HexBytes(raw["data"]),
            "blockNumber": int(raw["blockNumber"], 16),
            "blockHash": HexBytes(raw["blockHash"]),
            "logIndex": int(raw["logIndex"], 16),
            "transactionHash": HexBytes(raw["transactionHash"]),
            "removed": bool(raw.get("removed", False)),
        },
    )


class NodeProvider(HTTPProvider):
    """web3's HTTP provider whose failures are ours.

    A JSON-RPC error inside an HTTP error status (several hosted nodes do that) is passed on as the JSON-RPC
    error that it is. A request that the node did not answer is tried again a few times; sending a signed
    transaction twice is harmless.
    """

    def __init__(self, url: str, timeout: tuple[float, float]) -> None:
        super().__init__(
            url,
            request_kwargs={"timeout": timeout},
            exception_retry_configuration=ExceptionRetryConfiguration(
                errors=(requests.ConnectionError,), retries=RETRIES, backoff_factor=0.1
            ),
        )
        # An `OffchainLookup` revert would make web3 fetch URLs that a contract names.
        self.global_ccip_read_enabled = False
        self.shown = redact(url)

    def __repr__(self) -> str:
        return f"NodeProvider({self.shown})"

    __str__ = __repr__

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        try:
            answer = super().make_request(method, params)
            if not _is_answer(answer):
                raise ValueError("no JSON-RPC answer")
            return answer
        except requests.Timeout as error:
            raise TimedOut(
                f"the node {self.shown} did not answer {method} in time",
                field="node",
                value=self.shown,
                remedy="try again, or use a faster node",
            ) from error
        except requests.HTTPError as error:
            response = _rpc_error(error.response)
            if response is not None:
                return response
            status = error.response.status_code if error.response is not None else "?"
            raise Unreachable(
                f"the node {self.shown} answered {method} with HTTP status {status}",
                field="node",
                value=self.shown,
                remedy="check the URL and its API key; with status 429 slow down or use another node",
            ) from None
        except requests.RequestException as error:
            # The text of these errors holds the whole URL, so it is not passed on.
            raise Unreachable(
                f"the node {self.shown} cannot be reached ({type(error).__name__})",
                field="node",
                value=self.shown,
                remedy="check that the node runs and the URL is right (a local chain: gpubond devnet up)",
            ) from None
        except ValueError:  # no JSON, no text, or other JSON
            raise Unreachable(
                f"{self.shown} answers, but not as an Ethereum node",
                field="node",
                value=self.shown,
                remedy="check the URL: it must be the node's JSON-RPC address",
            ) from None


def _is_answer(answer: Any) -> bool:
    """Whether it is JSON-RPC at all: another server's JSON would be web3's to fail at."""
    if not isinstance(answer, dict) or answer.get("jsonrpc") != "2.0":
        return False
    return "result" in answer or _is_error(answer.get("error"))


def _is_error(error: Any) -> bool:
    return isinstance(error, str) or (isinstance(error, dict) and isinstance(error.get("code"), int))


def _rpc_error(response: requests.Response | None) -> RPCResponse | None:
    if response is None:
        return None
    try:
        body = response.json()
    except ValueError:
        return None
    if isinstance(body, dict) and isinstance(body.get("error"), dict) and _is_error(body["error"]):
        return RPCResponse(jsonrpc="2.0", id=body.get("id"), error=body["error"])
    return None


def connect(
    url: str,
    expected_chain_id: int | None = None,
    timeout: tuple[float, float] = (CONNECT_TIMEOUT, READ_TIMEOUT),
) -> Web3:
    """Connect to a node and check that it serves the chain that is meant.

    Args:
        url: the node's JSON-RPC address, http or https.
        expected_chain_id: refuse any other chain; None accepts each.
        timeout: seconds to connect, seconds to wait for an answer.

    Raises:
        BadSettings: not an http(s) URL, or another chain.
        Unreachable: no answer; also raised by every later call through the result.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise BadSettings(
            "the node's address is not an http or https URL",
            field="node",
            value=url if "@" not in url else "(hidden)",
            remedy="give it as http://127.0.0.1:8545 or https://host/path",
        )
    node = Web3(NodeProvider(url, timeout))
    # Proof-of-authority chains put more into a header's extraData than web3 accepts; elsewhere this changes
    # nothing that we read.
    node.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
    chain_id = node.eth.chain_id
    if expected_chain_id is not None and chain_id != expected_chain_id:
        raise BadSettings(
            f"the node {redact(url)} serves chain {chain_id}, expected is chain {expected_chain_id}",
            field="chain_id",
            value=chain_id,
            remedy=f"use a node of chain {expected_chain_id}, or the deployment file of chain {chain_id}",
        )
    return node


def check_first_block(node: Web3, known: str | None, database: str) -> str | None:
    """The hash of block 0, by which a local chain that was started anew is told from the old one.

    Args:
        node: from `connect`.
        known: the hash stored earlier, None for none.
        database: where it is stored, for the message.

    Returns:
        the hash, or None where the node does not keep its first block.

    Raises:
        BadSettings: it is another chain of the same id.
    """
    try:
        found = node.eth.get_block(0)["hash"].to_0x_hex()
    except BlockNotFound:
        return None
    if known is not None and found != known:
        raise BadSettings(
            f"the node serves another chain than the one {database} follows: its first block was {known}",
            field="node",
            value=found,
            remedy="if the local chain was started anew, move that file away or name a new --home; else use "
            "the old node",
        )
    return found
