# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape

from ..market import Account, Contract


def test_token_is_set(staking: Contract, token: Contract) -> None:
    assert staking.TOKEN() == token.address


def test_token_must_be_a_contract(admin: Account, thief: Account) -> None:
    with ape.reverts("staking: token is no contract"):
        admin.deploy(ape.project.ProviderStaking, thief)


def test_nobody_is_admin(staking: Contract) -> None:
    names = {abi.name for abi in staking.contract_type.mutable_methods}
    assert names == {
        "register",
        "set_operator",
        "set_endpoint",
        "stake",
        "withdraw",
        "allow",
        "lock",
        "unlock",
        "slash",
        "collect",
    }
