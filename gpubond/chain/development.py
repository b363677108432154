# SPDX-License-Identifier: Apache-2.0
"""The published accounts of local chains, and what only a local chain allows.

THESE KEYS ARE PUBLIC. The mnemonic is the one that anvil, Hardhat and Ape share; everybody knows its private
keys, and on every public network robots empty its accounts within seconds. Local chains only.
"""

from __future__ import annotations

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.types import RPCEndpoint

from gpubond.errors import BadInput

DEV_MNEMONIC = "test test test test test test test test test test test junk"
DEV_ACCOUNTS = 20


def dev_account(index: int) -> LocalAccount:
    """The local chain's account m/44'/60'/0'/0/`index`, one of 20 with coins. Its key is public!"""
    if index < 0:
        raise ValueError("account indices start at 0")
    Account.enable_unaudited_hdwallet_features()
    account: LocalAccount = Account.from_mnemonic(DEV_MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
    return account


def advance_time(node: Web3, seconds: int) -> None:
    """Move the local chain's clock forward and make a block."""
    for method, params in (("evm_increaseTime", [seconds]), ("evm_mine", [])):
        answer = node.provider.make_request(RPCEndpoint(method), params)
        if "error" in answer:
            raise BadInput(
                f"the node refuses {method}",
                field="node",
                value=str(answer["error"]),
                remedy="time can be moved on a local chain only",
            )
