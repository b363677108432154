# SPDX-License-Identifier: Apache-2.0
"""Why a contract refused, in words, and what can be done."""

from __future__ import annotations

from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from web3.exceptions import ContractLogicError, Web3RPCError

ERROR_SELECTOR = bytes.fromhex("08c379a0")  # Error(string)
PANIC_SELECTOR = bytes.fromhex("4e487b71")  # Panic(uint256)

# How nodes word a call that failed in the virtual machine.
_VM_FAILURES = ("revert", "invalid opcode", "out of gas", "gas required exceeds", "evm error", "vm exception")

_PANICS = {
    0x01: "an assertion failed",
    0x11: "arithmetic overflow",
    0x12: "division by zero",
    0x21: "a value outside its enumeration",
    0x32: "an index out of bounds",
    0x41: "too much memory",
}

# The contracts' reasons that a person can do something about.
REMEDIES = {
    "escrow: not enough balance": "deposit the rest first: approve the escrow at the token, then escrow.deposit",
    "escrow: amount is zero": "give an amount above zero",
    "escrow: not owner or operator": "send it from the provider's owner or operator",
    "escrow: not the buyer": "send it from the buyer's account; once a request has expired anyone may cancel it",
    "escrow: not for this provider": "the request names another provider",
    "escrow: offer not open": "it was closed, revoked or never posted: choose another offer",
    "escrow: offer already open": "nothing is left to do: it stands already",
    "escrow: offer fully used": "wait for a place, or choose another offer; a provider whose jobs expired posts anew",
    "escrow: offer has expired": "choose another offer, or post one with a later expiry",
    "escrow: run below offer": "pay for a longest run of at least the offer's shortest_run",
    "escrow: longest run beyond offer": "pay for a longest run of at most the offer's longest_run",
    "escrow: fee above offer's limit": "choose another offer, or raise max_fee_bps and post it again",
    "escrow: fee above bid's limit": "raise the bid's max_fee_bps to the escrow's fee_bps",
    "escrow: new jobs are paused": "wait until the admin ends the pause; jobs that run are not touched",
    "escrow: request not open": "it was accepted or cancelled: list the open ones with requests()",
    "escrow: request exists": "give it another salt",
    "escrow: request has expired": "post another with a later expiry",
    "escrow: expiry too late": "let it expire within 90 days",
    "escrow: price above request": "bid the request's price at most",
    "escrow: price is zero": "give a price above zero",
    "escrow: price too high": "lower the price, or the longest run that it is multiplied by",
    "escrow: not one price": "set either price or price_per_second, and the other to zero",
    "escrow: receiver is zero": "give an address that you have the key of: tokens sent to zero are lost",
    "escrow: no tasks": "order at least one task",
    "escrow: EXACT is one run": "order one task: an exact job is one run",
    "escrow: collateral is zero": "ask for a collateral above zero",
    "escrow: class is empty": "name a resource class",
    "escrow: spec hash is empty": "give the SHA-256 of the job's specification",
    "escrow: longest run is zero": "give a longest run of at least one second",
    "escrow: shortest above longest": "let shortest_run be at most longest_run",
    "escrow: window too short": "let the acknowledge window be 60 seconds at least",
    "escrow: window too long": "acknowledge window: at most a day; delivery margin and challenge window: 90 days",
    "escrow: failure cap too high": "let failure_cap_bps be 10,000 at most",
    "escrow: arbiter not approved": "the provider's owner approves it first: escrow.approve_arbiter",
    "escrow: tier not offered": "order a tier that the offer has",
    "escrow: tier not open yet": "use the tier BASIC or EXACT",
    "escrow: wrong state": "look at the job's status: this step is not open to it, or no longer",
    "escrow: not due yet": "wait until deliver_by has passed",
    "escrow: challenge window is open": "the buyer may settle now, everybody else when the window has ended",
    "escrow: too late to decline": "deliver, or commit a failed run: collateral is lost only if nothing is committed",
    "escrow: too late to commit": "the deadline has passed: anyone may expire the job",
    "escrow: dispute has timed out": "anyone may settle the job now, which pays its provider; fees can be reclaimed",
    "demands: not the buyer": "send it from the buyer's account",
    "demands: no such chunk": "demand chunks below the committed count",
    "demands: too many demands": "wait until one of the eight that are open is answered",
    "demands: challenge window is over": "nothing can be demanded any more; what is open must still be answered",
    "demands: transfer failed": "approve DataDemands at the token for the fees, and hold them in the wallet",
    "demands: no such demand": "it was answered, or the job has ended: look at the job's status",
    "demands: job is not held": "the job has ended or was released: look at its status",
    "demands: too late to answer": "the job's collateral is lost as soon as anyone ends the job",
    "demands: not due yet": "wait until the answer's deadline has passed",
    "demands: job is not over": "wait for the answer, or for its deadline",
    "demands: nothing to collect": "nothing is left to do",
    "demands: chunk is not of the result": "answer with the chunk of the result that was committed, from its store",
    "staking: not registered": "register first: staking.register",
    "staking: already registered": "nothing is left to do; staking.set_operator replaces the operator",
    "staking: not enough free stake": "add stake (staking.stake), or lower an allowance (staking.allow)",
    "staking: above allowance": "the provider's owner raises the allowance (staking.allow), or waits for jobs to end",
    "staking: above allowance per job": "the provider's owner raises the allowance per job (staking.allow)",
    "staking: per job above total": "let the allowance per job be at most its total",
}

# For all other reasons: nothing was sent, and a look at the state shows why.
NO_KNOWN_REMEDY = "nothing was sent; look at the state of the job or provider, and correct what the reason names"


def remedy_of(reason: str) -> str | None:
    """What the reader of a contract's reason can do; None where nothing general can be said."""
    return REMEDIES.get(reason)


def is_revert(error: Exception) -> bool:
    """Whether the contract refused, as opposed to a node that failed."""
    if isinstance(error, ContractLogicError):
        return True
    text = str(error).lower()
    return isinstance(error, Web3RPCError) and any(sign in text for sign in _VM_FAILURES)


def revert_reason(error: Exception) -> str:
    """The reason that a refused call gives: the contract's own words where it has some."""
    data = _revert_data(error)
    if data[:4] == ERROR_SELECTOR:
        try:
            # Not every compiler checks that a reason is UTF-8.
            raw: bytes = decode(["bytes"], data[4:], strict=False)[0]
            return raw.decode("utf-8", "replace")
        except DecodingError:
            return "0x" + data.hex()
    if data[:4] == PANIC_SELECTOR and len(data) == 36:
        code = int.from_bytes(data[4:], "big")
        return _PANICS.get(code, f"panic 0x{code:02x}")
    if data:
        return f"error 0x{data[:4].hex()} with data 0x{data[4:].hex()}"
    message = str(getattr(error, "message", None) or error)
    for prefix in ("execution reverted: ", "VM Exception while processing transaction: revert "):
        if message.startswith(prefix):
            return message.removeprefix(prefix)
    return "no reason given" if message.lower().rstrip(".:, ") in ("", "execution reverted") else message


def _revert_data(error: Exception) -> bytes:
    data: Any = getattr(error, "data", None)
    if isinstance(data, dict):
        data = data.get("data") or data.get("result")
    if isinstance(data, str):
        text = data.removeprefix("Reverted ")
        if text.startswith("0x"):
            try:
                return bytes.fromhex(text[2:])
            except ValueError:
                return b""
    return b""
