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
@dev Invariants: for each provider allocated <= stake; for each allowance
     locked <= what is allocated to it; sum of the locks of jobs = locked;
     token balance >= sum of stakes + burned.
     How it is stopped: it is not. An owner leaves by `allow(locker, 0, 0)`,
     waits for its jobs to end, and withdraws.
     `lock` and `unlock` write no event: each happens inside a call that the
     locker reports itself, and two events a job would cost its parties gas.
"""
from ethereum.ercs import IERC20

from .interfaces import IProviderStaking

implements: IProviderStaking


# @dev The only token that is staked here.
TOKEN: public(immutable(IERC20))

# @dev Amounts are packed two to a slot.
_LOW_128: constant(uint256) = 2**128 - 1


# @dev Base units that slashing took out of use. No function pays from it, so
#      that a blocked or missing burn address can stop nothing.
burned: public(uint256)

_operators: HashMap[address, address]

# @dev provider -> stake (low 128 bits) | allocated to lockers (high 128 bits).
_accounts: HashMap[address, uint256]

# @dev provider -> locker -> total (low 128 bits) | locked (high 128 bits).
_allowances: HashMap[address, HashMap[address, uint256]]

# @dev provider -> locker -> base units at most for one job.
_per_job: HashMap[address, HashMap[address, uint256]]

# @dev locker -> provider -> job -> base units locked.
_locks: HashMap[address, HashMap[address, HashMap[bytes32, uint256]]]


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

    account: uint256 = self._accounts[provider]
    total: uint256 = (account & _LOW_128) + amount
    assert total <= _LOW_128, "staking: amount too large"
    self._accounts[provider] = (account & ~_LOW_128) | total
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
    account: uint256 = self._accounts[msg.sender]
    total: uint256 = account & _LOW_128
    allocated: uint256 = account >> 128
    assert amount <= total - allocated, "staking: not enough free stake"
    self._accounts[msg.sender] = (allocated << 128) | (total - amount)
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
    @param locker The contract. Read its code: it can burn what it may lock.
    @param total Base units that may be locked at once.
    @param per_job Base units that may be locked for one job.
    """
    assert locker.is_contract or total == 0, "staking: locker is no contract"
    assert per_job <= total, "staking: per job above total"
    assert total <= _LOW_128, "staking: amount too large"

    allowance: uint256 = self._allowances[msg.sender][locker]
    locked: uint256 = allowance >> 128
    account: uint256 = self._accounts[msg.sender]
    staked: uint256 = account & _LOW_128
    # Never negative: `allocated` is the sum of these maxima over all lockers.
    allocated: uint256 = (account >> 128) - max(allowance & _LOW_128, locked) + max(total, locked)
    assert allocated <= staked, "staking: not enough free stake"

    self._accounts[msg.sender] = (allocated << 128) | staked
    self._allowances[msg.sender][locker] = (locked << 128) | total
    self._per_job[msg.sender][locker] = per_job
    log IProviderStaking.Allowed(
        provider=msg.sender, locker=locker, total=total, per_job=per_job
    )


@external
def lock(provider: address, job: bytes32, amount: uint256):
    """
    @notice Locks stake for a job. The caller is the locker that was allowed.
    @param provider Whose stake.
    @param job The locker's id of the job; used once a provider.
    @param amount Base units.
    """
    assert amount != 0, "staking: amount is zero"
    assert self._locks[msg.sender][provider][job] == 0, "staking: job already locked"
    assert amount <= self._per_job[provider][msg.sender], "staking: above allowance per job"
    allowance: uint256 = self._allowances[provider][msg.sender]
    total: uint256 = allowance & _LOW_128
    locked: uint256 = (allowance >> 128) + amount
    assert locked <= total, "staking: above allowance"
    self._allowances[provider][msg.sender] = (locked << 128) | total
    self._locks[msg.sender][provider][job] = amount


@external
def unlock(provider: address, job: bytes32):
    """
    @notice Ends the lock of a job; the stake may be locked again at once.
    @param provider Whose stake.
    @param job The job that was locked by the caller.
    """
    amount: uint256 = self._locks[msg.sender][provider][job]
    assert amount != 0, "staking: job not locked"
    self._locks[msg.sender][provider][job] = 0

    allowance: uint256 = self._allowances[provider][msg.sender]
    total: uint256 = allowance & _LOW_128
    locked: uint256 = allowance >> 128
    self._allowances[provider][msg.sender] = ((locked - amount) << 128) | total

    # Only after a revocation is more locked than allowed; that part turns free.
    freed: uint256 = max(total, locked) - max(total, locked - amount)
    if freed != 0:
        account: uint256 = self._accounts[provider]
        self._accounts[provider] = account - (freed << 128)


@external
def slash(
    provider: address,
    job: bytes32,
    to_buyer: uint256,
    to_challenger: uint256,
):
    """
    @notice Takes the whole lock of a job from a provider. The two shares go to
            the calling locker, which owes them to the buyer and the challenger;
            the rest is burned. The allowance shrinks by the lock, so repeated
            slashing can never take more than the owner allowed.
    @param provider Whose stake.
    @param job The job that was locked by the caller.
    @param to_buyer Base units.
    @param to_challenger Base units.
    """
    amount: uint256 = self._locks[msg.sender][provider][job]
    assert amount != 0, "staking: job not locked"
    paid: uint256 = to_buyer + to_challenger
    assert paid <= amount, "staking: shares above lock"
    self._locks[msg.sender][provider][job] = 0

    allowance: uint256 = self._allowances[provider][msg.sender]
    total: uint256 = allowance & _LOW_128
    locked: uint256 = allowance >> 128
    total -= min(total, amount)
    self._allowances[provider][msg.sender] = ((locked - amount) << 128) | total

    # What was allocated shrinks by exactly `amount` whether or not the owner
    # had lowered the total below the locks.
    account: uint256 = self._accounts[provider]
    self._accounts[provider] = account - ((amount << 128) | amount)
    self.burned += amount - paid

    if paid != 0:
        assert extcall TOKEN.transfer(
            msg.sender, paid, default_return_value=True
        ), "staking: transfer failed"
    log IProviderStaking.Slashed(
        provider=provider,
        locker=msg.sender,
        job=job,
        to_buyer=to_buyer,
        to_challenger=to_challenger,
        burned=amount - paid,
    )


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
def stake_of(provider: address) -> uint256:
    """
    @notice All of a provider's stake.
    @param provider The owner's address.
    @return Base units, locked ones included.
    """
    return self._accounts[provider] & _LOW_128


@external
@view
def free_stake_of(provider: address) -> uint256:
    """
    @notice What a provider can withdraw now.
    @param provider The owner's address.
    @return Base units that are not allocated to any locker.
    """
    account: uint256 = self._accounts[provider]
    return (account & _LOW_128) - (account >> 128)


@external
@view
def allowance(provider: address, locker: address) -> IProviderStaking.Allowance:
    """
    @notice What a locker may do with a provider's stake.
    @param provider The owner's address.
    @param locker The locker contract.
    @return Total, per job and locked, in base units.
    """
    allowance: uint256 = self._allowances[provider][locker]
    return IProviderStaking.Allowance(
        total=allowance & _LOW_128,
        per_job=self._per_job[provider][locker],
        locked=allowance >> 128,
    )


@external
@view
def locked_for(locker: address, provider: address, job: bytes32) -> uint256:
    """
    @notice What is locked for one job.
    @param locker The locker contract.
    @param provider The owner's address.
    @param job The locker's id of the job.
    @return Base units; zero when the lock has ended.
    """
    return self._locks[locker][provider][job]


@internal
@view
def _is_operator(provider: address, account: address) -> bool:
    operator: address = self._operators[provider]
    return operator != empty(address) and (account == operator or account == provider)
