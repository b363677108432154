# pragma version ~=0.4.3
# pragma nonreentrancy on
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title One balance a user
@license GNU Affero General Public License v3.0 only
@notice Deposits come in here, hires spend it, payouts land in it, and
        `withdraw` takes it out. No other function sends tokens to a user, so
        no user's address can block a job.
@dev Amounts are packed two to a slot, so the token's supply must stay below
     2**128 base units; a credit beyond that reverts.
"""
from ethereum.ercs import IERC20
from snekmate.tokens.interfaces import IERC20Permit

from ..interfaces import IJobEscrow
from . import errors

# @dev The only token of the escrow.
TOKEN: public(immutable(IERC20))

# @dev account -> balance (low 128 bits) | fees of what it earned, which the admin
#      has not collected yet (high 128 bits). Beside each other, since a settlement
#      writes both.
_accounts: HashMap[address, uint256]

_LOW_128: constant(uint256) = 2**128 - 1


@deploy
def __init__(token: IERC20):
    """
    @param token The ERC-20 for payment.
    """
    if not token.address.is_contract:
        errors._fail("escrow: token is no contract")
    TOKEN = token


@external
def deposit(amount: uint256, account: address = msg.sender):
    """
    @notice Adds to a balance, from the caller's tokens.
    @param amount Base units.
    @param account Whose balance grows.
    """
    self._deposit(amount, account)


@external
def deposit_with_permit(
    amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32
):
    """
    @notice Deposits with a signed EIP-2612 permit instead of an approval.
    @dev A permit that somebody else sent first must not block the deposit: its
         outcome is ignored, and the transfer needs the allowance either way.
    @param amount Base units, of the permit and of the deposit.
    @param deadline Last second of the permit.
    @param v Part of the owner's signature.
    @param r Part of the owner's signature.
    @param s Part of the owner's signature.
    """
    success: bool = raw_call(
        TOKEN.address,
        abi_encode(
            msg.sender,
            self,
            amount,
            deadline,
            v,
            r,
            s,
            method_id=method_id("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"),
        ),
        revert_on_failure=False,
    )
    self._deposit(amount, msg.sender)


@external
@view
def balance_of(account: address) -> uint256:
    """
    @notice What an account can spend or withdraw.
    @param account The account.
    @return Base units.
    """
    return self._accounts[account] & _LOW_128


@external
@view
def fees_of(provider: address) -> uint256:
    """
    @notice Fees on what a provider earned that wait for the admin.
    @param provider The owner's address.
    @return Base units.
    """
    return self._accounts[provider] >> 128


@internal
def _deposit(amount: uint256, account: address):
    if amount == 0:
        errors._fail("escrow: amount is zero")
    if account == empty(address):
        errors._fail("escrow: account is zero")
    if account == self:
        errors._fail("escrow: account is the escrow")
    before: uint256 = staticcall TOKEN.balanceOf(self)
    if not extcall TOKEN.transferFrom(msg.sender, self, amount, default_return_value=True):
        errors._fail("escrow: transfer failed")
    if staticcall TOKEN.balanceOf(self) - before != amount:
        errors._fail("escrow: token takes a fee")
    self._credit(account, amount)
    log IJobEscrow.Deposited(account=account, payer=msg.sender, amount=amount)


@internal
def _credit(account: address, amount: uint256, fee: uint256 = 0):
    if amount | fee != 0:
        packed: uint256 = self._accounts[account]
        if (packed & _LOW_128) + amount > _LOW_128:
            errors._fail("escrow: amount too large")
        self._accounts[account] = packed + (fee << 128) + amount


@internal
def _debit(account: address, amount: uint256):
    packed: uint256 = self._accounts[account]
    if amount > packed & _LOW_128:
        errors._fail("escrow: not enough balance")
    self._accounts[account] = packed - amount


@internal
def _take_fees(provider: address) -> uint256:
    packed: uint256 = self._accounts[provider]
    self._accounts[provider] = packed & _LOW_128
    return packed >> 128


@internal
def _send(receiver: address, amount: uint256):
    if not extcall TOKEN.transfer(receiver, amount, default_return_value=True):
        errors._fail("escrow: transfer failed")
