# pragma version ~=0.4.3
# pragma nonreentrancy on
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Stake of GPU providers
@license GNU Affero General Public License v3.0 only
@author GpuBond
@notice A provider's owner stakes here and allows locker contracts, for instance
        a JobEscrow, to lock part of the stake for jobs and to slash what they
        locked. There is no admin. A provider is the address of its owner (cold
        key: withdraws, allows); its operator (hot key) only works for it.
@dev Stake is free, or allocated to one locker. What is allocated to a locker
     is the greater of its allowance's total and what it has locked.
     Invariants: locked <= allocated for each allowance; token balance >= sum of
     free stakes + sum of allocated stakes + owed to lockers + burned.
     A lock has no record of its own here: the locker keeps one a job, and a
     locker that lies about one lock could as well lock anew. What bounds it are
     the owner's two limits, checked at each lock, and `locked`, at each slash.
     How it is stopped: it is not. An owner leaves by `allow(locker, 0, 0)`,
     waits for its jobs to end, and withdraws.
     `lock`, `unlock` and `slash` call nobody, so they need no lock against reentry.
     `lock` and `unlock` write no event: each happens inside a call that the
     locker reports itself, and two events a job would cost its parties gas.
"""
from ethereum.ercs import IERC20

from .interfaces import IProviderStaking

implements: IProviderStaking


# @dev The only token that is staked here.
TOKEN: public(immutable(IERC20))

# @dev Layout of an allowance's slot: total (85 bits) | locked (85) | per job (85).
#      One slot, since it is read and written at each hire and settlement. 2**85
#      base units are 38 million tokens of 18 decimals.
_MAX_ALLOWANCE: constant(uint256) = 2**85 - 1
_LOCKED_SHIFT: constant(uint256) = 85
_PER_JOB_SHIFT: constant(uint256) = 170

# @dev Layout of a locker's slot: owed (128 bits) | burned (128).
_LOW_128: constant(uint256) = 2**128 - 1


_operators: HashMap[address, address]

# @dev provider -> base units that are not allocated to any locker.
free_stake_of: public(HashMap[address, uint256])

# @dev provider -> locker -> packed allowance.
_allowances: HashMap[address, HashMap[address, uint256]]

# @dev locker -> base units of slashes that it may collect, and those burned: out
#      of use for good. No function pays from the latter, so that a blocked or
#      missing burn address can stop nothing.
_slashed: HashMap[address, uint256]


@deploy
def __init__(token: IERC20):
    """
    @dev The deployer keeps no right of any kind.
    @param token The ERC-20 that is staked. A token that takes a fee on
           transfer is refused at each deposit.
    """
    assert token.address.is_contract, "staking: token is no contract"
    TOKEN = token


@external
def register(operator: address, endpoint: String[128]):
    """
    @notice Makes the caller a provider.
    @param operator The hot key that works for it; may be the caller itself.
    @param endpoint Where buyers reach its gateway; may be empty.
    """
    assert self._operators[msg.sender] == empty(address), "staking: already registered"
    assert operator != empty(address), "staking: operator is zero"
    self._operators[msg.sender] = operator
    log IProviderStaking.Registered(provider=msg.sender, operator=operator, endpoint=endpoint)


@external
def set_operator(operator: address):
    """
    @notice Replaces the caller's operator at once, for instance a stolen one.
    @param operator The new hot key.
    """
    assert self._operators[msg.sender] != empty(address), "staking: not registered"
    assert operator != empty(address), "staking: operator is zero"
    self._operators[msg.sender] = operator
    log IProviderStaking.OperatorSet(provider=msg.sender, operator=operator)


@external
def set_endpoint(provider: address, endpoint: String[128]):
    """
    @notice Announces where buyers reach the gateway. By owner or operator.
    @param provider Whose gateway it is.
    @param endpoint Its URL; may be empty.
    """
    assert self._is_operator(provider, msg.sender), "staking: not owner or operator"
    log IProviderStaking.EndpointSet(provider=provider, endpoint=endpoint)


@external
def stake(amount: uint256, provider: address = msg.sender):
    """
    @notice Adds to a provider's free stake, from the caller's tokens.
    @param amount Base units.
    @param provider Whose stake grows; only its owner can take it out again.
    """
    assert amount != 0, "staking: amount is zero"
    assert provider != empty(address), "staking: provider is zero"
    assert provider != self, "staking: provider is the staking contract"
    before: uint256 = staticcall TOKEN.balanceOf(self)
    assert extcall TOKEN.transferFrom(
        msg.sender, self, amount, default_return_value=True
    ), "staking: transfer failed"
    assert staticcall TOKEN.balanceOf(self) - before == amount, "staking: token takes a fee"

    self.free_stake_of[provider] += amount
    log IProviderStaking.Staked(provider=provider, payer=msg.sender, amount=amount)


@external
def withdraw(amount: uint256, receiver: address = msg.sender):
    """
    @notice Takes free stake out, at once. Stake that is allocated to a locker
            must be freed first by `allow`; locked stake when its job is final.
    @param amount Base units.
    @param receiver Who gets the tokens.
    """
    assert amount != 0, "staking: amount is zero"
    assert receiver != empty(address), "staking: receiver is zero"
    assert receiver != self, "staking: receiver is the staking contract"
    free: uint256 = self.free_stake_of[msg.sender]
    assert amount <= free, "staking: not enough free stake"
    self.free_stake_of[msg.sender] = free - amount
    assert extcall TOKEN.transfer(
        receiver, amount, default_return_value=True
    ), "staking: transfer failed"
    log IProviderStaking.Withdrawn(provider=msg.sender, receiver=receiver, amount=amount)


@external
def allow(locker: address, total: uint256, per_job: uint256):
    """
    @notice Sets how much of the caller's stake a locker contract may lock, and
            so at most slash. Replaces the former allowance. It is allocated
            out of free stake, so no two lockers count on the same tokens.
    @dev Lowering `total` below what is locked is a revocation: nothing new can
         be locked, and what is unlocked later becomes free stake again.
    @param locker The contract. Read its code: it can burn what it may lock. A
           wallet with delegated code (EIP-7702) counts as a contract as well.
    @param total Base units that may be locked at once.
    @param per_job Base units that may be locked for one job.
    """
    assert locker.is_contract or total == 0, "staking: locker is no contract"
    assert per_job <= total, "staking: per job above total"
    assert total <= _MAX_ALLOWANCE, "staking: amount too large"

    allowance: uint256 = self._allowances[msg.sender][locker]
    locked: uint256 = (allowance >> _LOCKED_SHIFT) & _MAX_ALLOWANCE
    available: uint256 = self.free_stake_of[msg.sender] + max(allowance & _MAX_ALLOWANCE, locked)
    allocated: uint256 = max(total, locked)
    assert allocated <= available, "staking: not enough free stake"

    self.free_stake_of[msg.sender] = available - allocated
    self._allowances[msg.sender][locker] = (
        (per_job << _PER_JOB_SHIFT) | (locked << _LOCKED_SHIFT) | total
    )
    log IProviderStaking.Allowed(
        provider=msg.sender, locker=locker, total=total, per_job=per_job
    )


@external
@reentrant
def lock(provider: address, amount: uint256):
    """
    @notice Locks stake for a job. The caller is the locker that was allowed.
    @param provider Whose stake.
    @param amount Base units.
    """
    assert amount != 0, "staking: amount is zero"
    allowance: uint256 = self._allowances[provider][msg.sender]
    locked: uint256 = (allowance >> _LOCKED_SHIFT) & _MAX_ALLOWANCE
    assert amount <= allowance >> _PER_JOB_SHIFT, "staking: above allowance per job"
    # The sum is checked before it is packed, so it cannot run into the next field.
    assert locked + amount <= allowance & _MAX_ALLOWANCE, "staking: above allowance"
    self._allowances[provider][msg.sender] = allowance + (amount << _LOCKED_SHIFT)


@external
@reentrant
def unlock(provider: address, amount: uint256):
    """
    @notice Ends the lock of a job; the stake may be locked again at once.
    @param provider Whose stake.
    @param amount Base units that the caller had locked for the job.
    """
    allowance: uint256 = self._allowances[provider][msg.sender]
    total: uint256 = allowance & _MAX_ALLOWANCE
    locked: uint256 = (allowance >> _LOCKED_SHIFT) & _MAX_ALLOWANCE
    assert amount <= locked, "staking: not locked"
    self._allowances[provider][msg.sender] = allowance - (amount << _LOCKED_SHIFT)

    # Only after a revocation is more locked than allowed; that part turns free.
    if locked > total:
        self.free_stake_of[provider] += locked - max(total, locked - amount)


@external
@reentrant
def slash(
    provider: address,
    job: bytes32,
    amount: uint256,
    to_buyer: uint256,
    to_challenger: uint256,
):
    """
    @notice Takes the lock of a job from a provider. The two shares are owed to
            the calling locker, for the buyer and the challenger; the rest is
            burned. The allowance shrinks by the lock, so repeated slashing can
            never take more than the owner allowed. No token moves, so the token
            cannot stop it.
    @param provider Whose stake.
    @param job The locker's id of the job, for the record.
    @param amount Base units that the caller had locked for the job.
    @param to_buyer Base units of them.
    @param to_challenger Base units of them.
    """
    allowance: uint256 = self._allowances[provider][msg.sender]
    total: uint256 = allowance & _MAX_ALLOWANCE
    locked: uint256 = (allowance >> _LOCKED_SHIFT) & _MAX_ALLOWANCE
    assert amount != 0, "staking: amount is zero"
    assert amount <= locked, "staking: not locked"
    # Without a sum of what the caller says, which could overflow.
    assert (
        to_buyer <= amount and to_challenger <= amount - to_buyer
    ), "staking: shares above lock"
    paid: uint256 = to_buyer + to_challenger

    # What is allocated, max(total, locked), shrinks by exactly `amount`, whether
    # or not the owner had lowered the total below the locks.
    self._allowances[provider][msg.sender] = (
        allowance - (amount << _LOCKED_SHIFT) - min(total, amount)
    )
    burned: uint256 = amount - paid
    self._slashed[msg.sender] += (burned << 128) | paid
    log IProviderStaking.Slashed(
        provider=provider,
        locker=msg.sender,
        job=job,
        to_buyer=to_buyer,
        to_challenger=to_challenger,
        burned=burned,
    )


@external
def collect() -> uint256:
    """
    @notice Sends the calling locker its shares of slashes so far.
    @return Base units sent.
    """
    slashed: uint256 = self._slashed[msg.sender]
    owed: uint256 = slashed & _LOW_128
    assert owed != 0, "staking: nothing owed"
    self._slashed[msg.sender] = slashed - owed
    assert extcall TOKEN.transfer(
        msg.sender, owed, default_return_value=True
    ), "staking: transfer failed"
    log IProviderStaking.Collected(locker=msg.sender, amount=owed)
    return owed


@external
@view
def operator_of(provider: address) -> address:
    """
    @notice The hot key of a provider.
    @param provider The owner's address.
    @return Zero for an address that never registered.
    """
    return self._operators[provider]


@external
@view
def is_operator(provider: address, account: address) -> bool:
    """
    @notice Whether an account may work for a registered provider.
    @param provider The owner's address.
    @param account The account that acts.
    @return True for the owner and for its operator.
    """
    return self._is_operator(provider, account)


@external
@view
def allowance(provider: address, locker: address) -> IProviderStaking.Allowance:
    """
    @notice What a locker may do with a provider's stake. What is allocated to
            the locker is the greater of `total` and `locked`.
    @param provider The owner's address.
    @param locker The locker contract.
    @return Total, per job and locked, in base units.
    """
    allowance: uint256 = self._allowances[provider][locker]
    return IProviderStaking.Allowance(
        total=allowance & _MAX_ALLOWANCE,
        per_job=allowance >> _PER_JOB_SHIFT,
        locked=(allowance >> _LOCKED_SHIFT) & _MAX_ALLOWANCE,
    )


@external
@view
def owed_to(locker: address) -> uint256:
    """
    @notice What a locker may collect.
    @param locker The locker contract.
    @return Base units.
    """
    return self._slashed[locker] & _LOW_128


@external
@view
def burned_by(locker: address) -> uint256:
    """
    @notice What slashes by a locker took out of use for good.
    @param locker The locker contract.
    @return Base units.
    """
    return self._slashed[locker] >> 128


@internal
@view
def _is_operator(provider: address, account: address) -> bool:
    operator: address = self._operators[provider]
    return operator != empty(address) and (account == operator or account == provider)
