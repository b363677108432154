# SPDX-License-Identifier: Apache-2.0
"""Every contract that is deployed fits into the limit of EIP-170."""

from __future__ import annotations

import ape
import pytest

MAX_CODE_BYTES = 24_576


@pytest.mark.parametrize("name", ["ProviderStaking", "JobEscrow", "JobEscrowViews", "DataDemands", "TestToken"])
def test_code_fits(name: str) -> None:
    code = ape.project.contracts[name].runtime_bytecode.bytecode
    assert len(bytes.fromhex(code.removeprefix("0x"))) < MAX_CODE_BYTES
