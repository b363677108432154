# pragma version ~=0.4.3
# pragma nonreentrancy on
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Bonds and shares of dispute games
@license GNU Affero General Public License v3.0 only
@notice What a game costs, who gets what at its end, and balances that are taken out by
        `withdraw` only: so no token and nobody's address can stop a verdict.
@dev Invariant: token balance + balance in the escrow >= balances + bonds of open games
     + rests of shares + burned. Every division rounds down and what is split off is
     subtracted from the whole, so that parts always sum to it; what somebody must pay
     rounds up.
"""
from ethereum.ercs import IERC20

from ..interfaces import IDisputeGame
from ..interfaces import IJobEscrow
from . import errors
from . import terms as job_terms

interface IEscrow:
    def CHAIN_ID() -> uint256: view
    def TOKEN() -> address: view
    def STAKING() -> address: view
    def EXACT_DISPUTE_TIMEOUT() -> uint256: view
    def job_slot(job: bytes32) -> uint256: view
    def balance_of(account: address) -> uint256: view
    def hold(terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment): nonpayable
    def release(terms: IJobEscrow.JobTerms): nonpayable
    def convict(
        terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment, to_arbiter: uint256
    ): nonpayable
    def withdraw(amount: uint256): nonpayable


# @dev Gas of the side that pays more in the largest game, measured; a bond is half as much again.
GAME_GAS: public(constant(uint256)) = 1_200_000

# @dev Gas that a conviction refunds for each move, of which an opening counts as three: so
#      who opens, with 64 nodes, and then also calls `time_out`, `convict`, `claim` and
#      `withdraw`, each where it is dearest, gets all of it back: 550,040, measured.
MOVE_GAS: public(constant(uint256)) = 190_000

# @dev Challengers whose whole gas the challengers' share of the collateral must pay.
_CHALLENGERS: constant(uint256) = 65

# @dev Whose jobs are judged.
ESCROW: public(immutable(IEscrow))

# @dev The escrow's token.
TOKEN: public(immutable(IERC20))

# @dev Wei a unit of gas that bonds reckon with at least.
MIN_GAS_PRICE: public(immutable(uint256))

# @dev Base units that are reckoned for 10**18 wei.
RATE: public(immutable(uint256))

# @dev Collateral of a job on which games open, at most: bounds what a mistake in the
#      judge could cost.
MAX_COLLATERAL: public(immutable(uint256))

_ETHER: constant(uint256) = 10**18

# @dev Of collateral and highest price, that a bond is at least.
_STAKE_BPS: constant(uint256) = 200

_LOW_32: constant(uint256) = 2**32 - 1
_OPENED_SHIFT: constant(uint256) = 32
_ONE_OPENED: constant(uint256) = (1 << 32) + 1
_CONVICTED: constant(uint256) = 1 << 64
_TOLD: constant(uint256) = 1 << 65
_GAMES_SHIFT: constant(uint256) = 72
_SHARE_SHIFT: constant(uint256) = 128
_STATUS_MASK: constant(uint256) = 2**16 - 1


# @dev Base units that nobody gets. They stay here.
burned: public(uint256)

_balances: HashMap[address, uint256]

# @dev job -> open games (32 bits) | games ever (32) | convicted (1) | told (1) | from bit 72:
#      games open when the escrow was told (32) | from bit 128: the challengers' share.
#      Games that are open at a conviction stay so, until each is claimed.
_jobs: HashMap[bytes32, uint256]

# @dev job -> number of the earliest-opened game that was claimed, plus one (32 bits) | its
#      challenger (160). Neither this nor the next is written if there is one game only.
_earliest: HashMap[bytes32, uint256]

# @dev job -> refunds.
_refunded: HashMap[bytes32, uint256]


@deploy
def __init__(
    escrow: address, min_gas_price: uint256, rate: uint256, max_collateral: uint256
):
    if not escrow.is_contract:
        errors._fail("game: escrow is no contract")
    if min_gas_price == 0 or min_gas_price >= 2**64:
        errors._fail("game: gas price out of bounds")
    if rate == 0 or rate >= 2**128:
        errors._fail("game: rate out of bounds")
    ESCROW = IEscrow(escrow)
    TOKEN = IERC20(staticcall IEscrow(escrow).TOKEN())
    MIN_GAS_PRICE = min_gas_price
    RATE = rate
    MAX_COLLATERAL = max_collateral
    if max_collateral >= 2**128 or max_collateral < self._least(min_gas_price, rate):
        errors._fail("game: collateral out of bounds")


@external
def withdraw(amount: uint256, receiver: address = msg.sender):
    """
    @notice Takes tokens out of the caller's balance. Nothing can pause it.
    @param amount Base units.
    @param receiver Who gets the tokens.
    """
    if amount == 0:
        errors._fail("game: amount is zero")
    if receiver == empty(address) or receiver == self:
        errors._fail("game: no such receiver")
    balance: uint256 = self._balances[msg.sender]
    if amount > balance:
        errors._fail("game: not enough balance")
    self._balances[msg.sender] = balance - amount
    # Shares of collateral wait in the escrow until somebody needs them.
    if self._tokens() < amount:
        extcall ESCROW.withdraw(staticcall ESCROW.balance_of(self))
    self._require_moved(
        extcall TOKEN.transfer(receiver, amount, default_return_value=True)
    )
    log IDisputeGame.Withdrawn(account=msg.sender, receiver=receiver, amount=amount)


@external
@view
def balance_of(account: address) -> uint256:
    """
    @notice What an account can withdraw.
    @param account The account.
    @return Base units.
    """
    return self._balances[account]


@external
@view
def minimum_collateral() -> uint256:
    """
    @notice The least collateral of a job on which games open: 15 percent of it pays the
            whole gas of 65 challengers at the least gas price.
    @return Base units.
    """
    return self._least(MIN_GAS_PRICE, RATE)


@external
@view
def bond_of(job: bytes32, collateral: uint256, highest: uint256) -> uint256:
    """
    @notice The bond of the next game on a job, if it opens at the present base fee.
    @param job The job's id.
    @param collateral Base units, as in its terms.
    @param highest Base units that the job may cost its buyer.
    @return Base units.
    """
    return self._bond(collateral + highest, self._price(), self._jobs[job] & _LOW_32)


@external
@view
def games_of(job: bytes32) -> IDisputeGame.JobGames:
    """
    @notice What is kept of a job.
    @param job The job's id.
    @return Its games, whether it is convicted, and what is left of the share.
    """
    packed: uint256 = self._jobs[job]
    return IDisputeGame.JobGames(
        open=packed & _LOW_32,
        opened=(packed >> _OPENED_SHIFT) & _LOW_32,
        convicted=packed & _CONVICTED != 0,
        told=packed & _TOLD != 0,
        refunded=(packed >> _GAMES_SHIFT) & _LOW_32,
        share=packed >> _SHARE_SHIFT,
    )


@internal
@view
def _price() -> uint256:
    return max(MIN_GAS_PRICE, block.basefee)


@internal
@view
def _cost(units: uint256, price: uint256) -> uint256:
    # Base units, rounded up.
    return (units * price * RATE + _ETHER - 1) // _ETHER


@internal
@pure
def _least(min_gas_price: uint256, rate: uint256) -> uint256:
    # Immutables cannot be read while they are set.
    cost: uint256 = (GAME_GAS * min_gas_price * rate + _ETHER - 1) // _ETHER
    whole: uint256  = _CHALLENGERS * cost * job_terms.BPS
    return (whole + job_terms.CONVICTION_ARBITER_BPS - 1) // job_terms.CONVICTION_ARBITER_BPS


@internal
@view
def _bond(at_stake: uint256, price: uint256, games: uint256) -> uint256:
    # The more games are open, the dearer is the next.
    stake: uint256 = at_stake * _STAKE_BPS // job_terms.BPS
    return max(self._cost(GAME_GAS * 3 // 2, price), stake) * (8 + games) // 8


@internal
@view
def _require_undecided(job: bytes32) -> uint256:
    packed: uint256 = self._jobs[job]
    if packed & _CONVICTED != 0:
        errors._fail("game: job is convicted")
    return packed


@internal
def _enter(job: bytes32, packed: uint256):
    self._jobs[job] = packed + _ONE_OPENED


@internal
@view
def _tokens() -> uint256:
    return staticcall TOKEN.balanceOf(self)


@internal
@pure
def _require_moved(moved: bool):
    if not moved:
        errors._fail("game: transfer failed")


@internal
def _take(bond: uint256):
    # From the caller's tokens, all of it.
    before: uint256 = self._tokens()
    self._require_moved(
        extcall TOKEN.transferFrom(msg.sender, self, bond, default_return_value=True)
    )
    if self._tokens() - before != bond:
        errors._fail("game: token takes a fee")


@internal
def _lost(job: bytes32, provider: address, bond: uint256, price: uint256) -> (uint256, uint256):
    """
    @dev A game less on the job. The provider gets its gas and half of what remains.
    @return What the provider gets, and what burns.
    """
    self._jobs[job] = self._require_undecided(job) - 1
    compensation: uint256 = min(bond, self._cost(GAME_GAS, price))
    gone: uint256 = bond - compensation - (bond - compensation) // 2
    self._balances[provider] += bond - gone
    self.burned += gone
    return bond - gone, gone


@internal
def _won(job: bytes32):
    self._jobs[job] = self._require_undecided(job) | _CONVICTED


@internal
def _tell(job: bytes32, share: uint256) -> uint256:
    # The escrow pays the share. Returns the number of games that share it.
    packed: uint256 = self._jobs[job]
    if packed & (_CONVICTED | _TOLD) != _CONVICTED:
        errors._fail("game: nothing to tell")
    games: uint256 = packed & _LOW_32
    self._jobs[job] = packed | _TOLD | (games << _GAMES_SHIFT) | (share << _SHARE_SHIFT)
    return games


@internal
def _claim(
    origin: IDisputeGame.Origin, challenger: address, moves: uint256
) -> uint256:
    """
    @dev For a game that was open at the conviction: its bond and the refund of its gas. The
         last claim of a job gives the rest of the share to the earliest-opened game.
    @return The refund.
    """
    job: bytes32 = origin.job
    packed: uint256 = self._jobs[job]
    if packed & _CONVICTED == 0:
        errors._fail("game: job is not convicted")
    self._jobs[job] = packed - 1
    if packed & _TOLD == 0:
        # The escrow waits 90 days, so this takes that nobody called `convict` in weeks.
        status: uint256 = staticcall ESCROW.job_slot(job) & _STATUS_MASK
        if status == convert(IJobEscrow.Status.DISPUTED, uint256):
            errors._fail("game: conviction is not told")
        self._balances[challenger] += origin.bond
        return 0

    games: uint256 = (packed >> _GAMES_SHIFT) & _LOW_32
    share: uint256 = packed >> _SHARE_SHIFT
    refund: uint256 = min(self._cost(MOVE_GAS * moves, origin.price), share // games)
    self._balances[challenger] += origin.bond + refund
    refunded: uint256 = refund
    winner: address = challenger
    if games != 1:
        refunded += self._refunded[job]
        self._refunded[job] = refunded
        earliest: uint256 = self._earliest[job]
        if earliest == 0 or origin.number + 1 < earliest & _LOW_32:
            earliest = (origin.number + 1) | (convert(challenger, uint256) << 32)
            self._earliest[job] = earliest
        winner = convert(earliest >> 32, address)
    if packed & _LOW_32 == 1:
        self._balances[winner] += share - refunded
        log IDisputeGame.BountyPaid(job=job, challenger=winner, amount=share - refunded)
    return refund
