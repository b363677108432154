# SPDX-License-Identifier: Apache-2.0
"""Many contract reads in few requests, by JSON-RPC batches.

A batch needs no helper contract, so it works on every chain and with deployments that exist already, and each
answer is the contract's own. Where a node limits batches, they shrink until it takes them, down to single calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import requests
from web3 import Web3
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint

from gpubond.errors import Unreachable

BATCH_SIZE = 100


def call_many(node: Web3, to: str, calls: Sequence[bytes]) -> list[bytes]:
    """Runs read-only calls of one contract on the latest block; the answers, in order.

    Raises:
        Unreachable: the node does not answer, or refuses even a single call.
    """
    answers: list[bytes] = []
    size = BATCH_SIZE
    while len(answers) < len(calls):
        chunk = calls[len(answers) : len(answers) + size]
        found = _batch(node, to, chunk) if len(chunk) > 1 else _single(node, to, chunk[0])
        if found is None:
            size = len(chunk) // 2
        else:
            answers += found
    return answers


def _parameters(to: str, data: bytes) -> list[Any]:
    return [{"to": to, "data": "0x" + data.hex()}, "latest"]


def _batch(node: Web3, to: str, calls: Sequence[bytes]) -> list[bytes] | None:
    """The answers; None if the node does not take such a batch."""
    wanted = [(RPCEndpoint("eth_call"), _parameters(to, data)) for data in calls]
    provider: Any = node.provider
    try:
        answers = provider.make_batch_request(wanted)
        results = [answer["result"] for answer in answers]
        found = [bytes.fromhex(result.removeprefix("0x")) for result in results]
    except (requests.ConnectionError, requests.Timeout):
        return _single(node, to, calls[0])  # in the node's own words if it is down
    except (requests.RequestException, Web3Exception, ValueError, KeyError, TypeError, AttributeError):
        # Unwilling: a smaller one may do, and a single call is refused in words.
        return None
    return found if len(found) == len(calls) else None


def _single(node: Web3, to: str, data: bytes) -> list[bytes]:
    answer = node.provider.make_request(RPCEndpoint("eth_call"), _parameters(to, data))
    result = answer.get("result")
    if not isinstance(result, str):
        raise Unreachable(
            f"the node does not run a read of {to}: {answer.get('error')}",
            field="node",
            remedy="try again, or use another node",
        )
    return [bytes.fromhex(result.removeprefix("0x"))]
