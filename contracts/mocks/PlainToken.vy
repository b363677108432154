# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title A token of any number of decimals
@license GNU Affero General Public License v3.0 only
@notice For tests only: a token that behaves, and that anyone may mint.
"""

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256


event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256


# @dev Digits after the point, for display only.
decimals: public(immutable(uint8))
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
totalSupply: public(uint256)


@deploy
def __init__(places: uint8):
    """
    @param places Digits after the point.
    """
    decimals = places


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
    @notice As in ERC-20.
    @param receiver Who gets the tokens.
    @param amount Base units.
    @return Always true.
    """
    self._move(msg.sender, receiver, amount)
    return True


@external
def transferFrom(owner: address, receiver: address, amount: uint256) -> bool:
    """
    @notice As in ERC-20.
    @param owner Whose tokens.
    @param receiver Who gets them.
    @param amount Base units.
    @return Always true.
    """
    self.allowance[owner][msg.sender] -= amount
    self._move(owner, receiver, amount)
    return True


@internal
def _move(sender: address, receiver: address, amount: uint256):
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=sender, receiver=receiver, value=amount)
