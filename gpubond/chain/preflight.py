# SPDX-License-Identifier: Apache-2.0
"""What is known about a transaction before and after it runs, without sending anything."""

from __future__ import annotations

from typing import Any

from eth_typing import ChecksumAddress
from eth_utils.address import is_address, to_checksum_address
from web3 import Web3
from web3.exceptions import BlockNotFound, Web3Exception, Web3RPCError
from web3.types import TxParams, TxReceipt

from gpubond.chain.reverts import NO_KNOWN_REMEDY, is_revert, remedy_of, revert_reason
from gpubond.errors import BadInput, KeyInUse, NotEnough, Refused, Unreachable

# A state may change between the estimate and the block: a fifth more gas than estimated.
GAS_NUMERATOR, GAS_DENOMINATOR = 6, 5


def call_params(sender: str, to: str, data: str | bytes, value: int) -> TxParams:
    """The call as web3 takes it, normalised.

    Args:
        sender, to: addresses.
        data: bytes or 0x-hex.
        value: wei.

    Raises:
        BadInput: not an address, or not hex.
    """
    if not is_address(to):
        raise BadInput("not an address", field="to", value=to, remedy="give 20 bytes as 0x-hex")
    if isinstance(data, str):
        try:
            data = bytes.fromhex(data.removeprefix("0x"))
        except ValueError:
            raise BadInput(
                "the call's data is not hex", field="data", value=data, remedy="give bytes or 0x-hex"
            ) from None
    params: Any = {"from": sender, "to": to_checksum_address(to), "data": "0x" + data.hex(), "value": value}
    return params  # type: ignore[no-any-return] # web3's types want branded strings and integers


def run_call(node: Web3, call: TxParams, purpose: str) -> bytes:
    """What the call would return on the latest state.

    Raises:
        Refused: the contract refuses, with its reason.
        Unreachable: the node cannot run it.
    """
    try:
        return bytes(node.eth.call(call, "latest", ccip_read_enabled=False))
    except Web3Exception as error:
        raise _why_not(error, call, purpose) from error


def try_call(node: Web3, call: TxParams, purpose: str) -> int:
    """Run the call on the latest state; returns the gas limit to send it with. Raises as `run_call`."""
    run_call(node, call, purpose)
    try:
        estimate = node.eth.estimate_gas(call) * GAS_NUMERATOR // GAS_DENOMINATOR
        return min(estimate, node.eth.get_block("latest")["gasLimit"])
    except Web3Exception as error:
        raise _why_not(error, call, purpose) from error


def _why_not(error: Web3Exception, call: TxParams, purpose: str) -> Refused | Unreachable:
    if is_revert(error):
        reason = revert_reason(error)
        # What follows the colon tells purposes of one kind apart, and tells a reader nothing.
        return Refused(
            f"the contract refuses {purpose.partition(':')[0]}: {reason}",
            field="contract",
            value=call["to"],
            remedy=remedy_of(reason) or NO_KNOWN_REMEDY,
        )
    return Unreachable(f"the node cannot try {purpose}: {error}", field="node", remedy="try again, or use another node")


def why_reverted(node: Web3, call: TxParams, gas_limit: int, receipt: TxReceipt) -> str:
    """Why a mined transaction failed, as far as a replay on the blocks around it tells."""
    if receipt["gasUsed"] >= gas_limit:
        return f"out of gas (limit {gas_limit})"
    for block in (receipt["blockNumber"] - 1, receipt["blockNumber"]):
        try:
            node.eth.call({**call, "gas": gas_limit}, block, ccip_read_enabled=False)
        except Web3Exception as error:
            if is_revert(error):
                return revert_reason(error)
    return "reverted; the reason is not known"


def nonce_user(node: Web3, address: ChecksumAddress, nonce: int, since_block: int, head: int) -> tuple[int, str] | None:
    """Block number and hash of the mined transaction with this nonce; None if the node does not show it.

    Args:
        since_block: a block at which the nonce was still free, where to start looking.
        head: the block to look up to.
    """
    before, after = min(since_block, head), head
    try:
        if node.eth.get_transaction_count(address, head) <= nonce:
            return None
        while before > 0 and node.eth.get_transaction_count(address, before) > nonce:
            before //= 2  # a reorg may have put it further down
        while after - before > 1:
            middle = (before + after) // 2
            if node.eth.get_transaction_count(address, middle) > nonce:
                after = middle
            else:
                before = middle
        block = node.eth.get_block(after, full_transactions=True)
    except (Web3RPCError, BlockNotFound):
        return None  # a node keeps old states for a while only
    for transaction in block["transactions"]:
        if isinstance(transaction, bytes):
            continue
        if transaction["from"] == address and transaction["nonce"] == nonce:
            return after, transaction["hash"].to_0x_hex()
    return None


def not_enough_gas_money(address: str, purpose: str, balance: int, need: int) -> NotEnough:
    """The error for an account that cannot pay; amounts in wei."""
    return NotEnough(
        f"{address} has {_coin(balance)} of the chain's coin for gas, and {purpose.partition(':')[0]} may need "
        f"{_coin(need)}",
        field="gas money",
        value=_coin(balance),
        remedy=f"send it at least {_coin(need - balance)} of the coin more",
    )


def key_in_use(address: str, purpose: str, nonce: int, other: str) -> KeyInUse:
    """The error for a nonce that somebody else's transaction `other` used."""
    return KeyInUse(
        f"another worker uses the key {address}: its transaction {other} took nonce {nonce}, "
        f"which {purpose} was signed with",
        field="key",
        value=address,
        remedy="stop the other worker or give it its own key, then submit what was displaced again",
    )


def _coin(wei: int) -> str:
    return f"{Web3.from_wei(wei, 'ether'):f}"
