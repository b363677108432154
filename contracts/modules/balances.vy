# pragma version ~=0.4.3
# pragma nonreentrancy on
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title One balance a user
@license GNU Affero General Public License v3.0 only
@notice Deposits come in here, hires spend it, payouts land in it, and
        `withdraw` takes it out. No other function sends tokens to a user, so
        no user's address can block a job.
"""
from ethereum.ercs import IERC20
from snekmate.tokens.interfaces import IERC20Permit

from ..interfaces import IJobEscrow

# @dev The only token of the escrow.
TOKEN: public(immutable(IERC20))

_balances: HashMap[address, uint256]


@deploy
def __init__(token: IERC20):
    """
    @param token The ERC-20 for payment.
    """
    assert token.address.is_contract, "escrow: token is no contract"
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
def withdraw(amount: uint256, receiver: address = msg.sender):
    """
    @notice Takes tokens out of the caller's balance. Nothing can pause it.
    @param amount Base units.
    @param receiver Who gets the tokens.
    """
    assert amount != 0, "escrow: amount is zero"
    assert receiver != empty(address), "escrow: receiver is zero"
    assert receiver != self, "escrow: receiver is the escrow"
    self._debit(msg.sender, amount)
    self._send(receiver, amount)
    log IJobEscrow.Withdrawn(account=msg.sender, receiver=receiver, amount=amount)


@external
@view
def balance_of(account: address) -> uint256:
    """
    @notice What an account can spend or withdraw.
    @param account The account.
    @return Base units.
    """
    return self._balances[account]


@internal
def _deposit(amount: uint256, account: address):
    assert amount != 0, "escrow: amount is zero"
    assert account != empty(address), "escrow: account is zero"
    assert account != self, "escrow: account is the escrow"
    before: uint256 = staticcall TOKEN.balanceOf(self)
    assert extcall TOKEN.transferFrom(
        msg.sender, self, amount, default_return_value=True
    ), "escrow: transfer failed"
    assert staticcall TOKEN.balanceOf(self) - before == amount, "escrow: token takes a fee"
    self._credit(account, amount)
    log IJobEscrow.Deposited(account=account, payer=msg.sender, amount=amount)


@internal
def _credit(account: address, amount: uint256):
    if amount != 0:
        self._balances[account] += amount


@internal
def _debit(account: address, amount: uint256):
    balance: uint256 = self._balances[account]
    assert amount <= balance, "escrow: not enough balance"
    self._balances[account] = balance - amount


@internal
def _send(receiver: address, amount: uint256):
    assert extcall TOKEN.transfer(
        receiver, amount, default_return_value=True
    ), "escrow: transfer failed"
