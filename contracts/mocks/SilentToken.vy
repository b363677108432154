# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title A token whose transfers return nothing
@license GNU Affero General Public License v3.0 only
@notice For tests only. As the oldest stablecoins: `transfer`, `transferFrom`
        and `approve` revert on failure and return no data. It has no permit.
"""

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256


balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
totalSupply: public(uint256)


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
def approve(spender: address, amount: uint256):
    """
    @notice As in ERC-20, without an answer.
    @param spender Who may send the caller's tokens.
    @param amount Base units.
    """
    self.allowance[msg.sender][spender] = amount


@external
def transfer(receiver: address, amount: uint256):
    """
    @notice As in ERC-20, without an answer.
    @param receiver Who gets the tokens.
    @param amount Base units.
    """
    self._move(msg.sender, receiver, amount)


@external
def transferFrom(owner: address, receiver: address, amount: uint256):
    """
    @notice As in ERC-20, without an answer.
    @param owner Whose tokens.
    @param receiver Who gets them.
    @param amount Base units.
    """
    self.allowance[owner][msg.sender] -= amount
    self._move(owner, receiver, amount)


@internal
def _move(sender: address, receiver: address, amount: uint256):
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=sender, receiver=receiver, value=amount)
