# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title A token that can be switched to every known kind of misbehaviour
@license GNU Affero General Public License v3.0 only
@notice For tests only. Takes a fee on transfer, returns false instead of
        reverting, blocks addresses, or calls back in the middle of a transfer.
        It can also act as an account, so that a call back comes from a user
        who has a balance or a stake.
"""
from ethereum.ercs import IERC20

implements: IERC20

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256


event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256


_BPS: constant(uint256) = 10_000
_MAX_CALL: constant(uint256) = 2_048

balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
totalSupply: public(uint256)

# @dev Fee on each transfer in basis points; it is destroyed.
fee_bps: public(uint256)

# @dev Whether transfers do nothing and return false.
returns_false: public(bool)

# @dev Accounts that may neither send nor receive.
blocked: public(HashMap[address, bool])

# @dev Called once in each transfer while the target is not zero.
callback_target: public(address)
callback_data: Bytes[_MAX_CALL]

# @dev Calls back so far, and how many of them went through.
callbacks: public(uint256)
callbacks_succeeded: public(uint256)

_in_callback: bool


@external
def mint(receiver: address, amount: uint256):
    """
    @notice Makes tokens out of nothing.
    @param receiver Who gets them.
    @param amount Base units.
    """
    self.balanceOf[receiver] += amount
    self.totalSupply += amount
    log Transfer(sender=empty(address), receiver=receiver, value=amount)


@external
def set_fee_bps(fee_bps: uint256):
    """
    @notice Sets the fee on transfer.
    @param fee_bps Basis points of what is sent.
    """
    self.fee_bps = fee_bps


@external
def set_returns_false(returns_false: bool):
    """
    @notice Makes transfers do nothing and return false.
    @param returns_false True to do so.
    """
    self.returns_false = returns_false


@external
def set_blocked(account: address, blocked: bool):
    """
    @notice Blocks an account, as issuers of stablecoins can.
    @param account The account.
    @param blocked True to block it.
    """
    self.blocked[account] = blocked


@external
def set_callback(target: address, data: Bytes[_MAX_CALL]):
    """
    @notice Sets what every transfer calls back.
    @param target The contract; zero for none.
    @param data Call data.
    """
    self.callback_target = target
    self.callback_data = data


@external
def act(target: address, data: Bytes[_MAX_CALL]):
    """
    @notice Calls a contract as the token's own account.
    @param target The contract.
    @param data Call data.
    """
    raw_call(target, data)


@external
def approve(spender: address, amount: uint256) -> bool:
    """
    @notice As in ERC-20.
    @param spender Who may send the caller's tokens.
    @param amount Base units.
    @return Always true.
    """
    self.allowance[msg.sender][spender] = amount
    log Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@external
def transfer(receiver: address, amount: uint256) -> bool:
    """
    @notice As in ERC-20, with the misbehaviour that is switched on.
    @param receiver Who gets the tokens.
    @param amount Base units.
    @return False only if that is switched on.
    """
    return self._move(msg.sender, receiver, amount)


@external
def transferFrom(owner: address, receiver: address, amount: uint256) -> bool:
    """
    @notice As in ERC-20, with the misbehaviour that is switched on.
    @param owner Whose tokens.
    @param receiver Who gets them.
    @param amount Base units.
    @return False only if that is switched on.
    """
    if not self.returns_false:
        self._require_free(owner, receiver)
        self.allowance[owner][msg.sender] -= amount
    return self._move(owner, receiver, amount)


@internal
@view
def _require_free(sender: address, receiver: address):
    assert not self.blocked[sender] and not self.blocked[receiver], "token: account is blocked"


@internal
def _move(sender: address, receiver: address, amount: uint256) -> bool:
    if self.returns_false:
        return False
    self._require_free(sender, receiver)
    fee: uint256 = amount * self.fee_bps // _BPS
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount - fee
    self.totalSupply -= fee
    log Transfer(sender=sender, receiver=receiver, value=amount - fee)
    self._call_back()
    return True


@internal
def _call_back():
    if self.callback_target == empty(address) or self._in_callback:
        return
    self._in_callback = True
    success: bool = raw_call(self.callback_target, self.callback_data, revert_on_failure=False)
    self._in_callback = False
    self.callbacks += 1
    if success:
        self.callbacks_succeeded += 1
