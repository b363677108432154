# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Reverting with a reason
@license GNU Affero General Public License v3.0 only
@notice `assert cond, "reason"` costs some 130 bytes of code each time, a call of
        this 60: the difference is what lets the escrow fit into one contract.
"""


@internal
@pure
def _fail(reason: String[32]):
    raise reason
