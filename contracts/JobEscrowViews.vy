# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title What people and dashboards read
@license GNU Affero General Public License v3.0 only
@author GpuBond
@notice Unpacked answers in one call, kept out of the core. Owns nothing and
        writes nothing; any number of such contracts may stand beside an escrow.
"""
from .interfaces import IJobEscrow
from .interfaces import IProviderStaking

interface IEscrowReads:
    def STAKING() -> address: view
    def balance_of(account: address) -> uint256: view
    def declines(provider: address) -> uint256: view
    def job_state(job: bytes32) -> IJobEscrow.JobState: view
    def job_id(terms: IJobEscrow.JobTerms) -> bytes32: view
    def offer_state(offer_id: bytes32) -> IJobEscrow.OfferState: view
    def offer_id(offer: IJobEscrow.Offer) -> bytes32: view
    def is_paused() -> bool: view
    def fee_bps() -> uint256: view


# @dev A provider as the escrow sees it. Amounts in base units.
struct Provider:
    operator: address  # zero: never registered
    stake: uint256
    free_stake: uint256  # withdrawable at once
    allowed: uint256  # what the escrow may lock at once
    allowed_per_job: uint256
    locked: uint256
    balance: uint256  # earned, withdrawable from the escrow
    declines: uint256


# @dev The escrow whose state is read.
ESCROW: public(immutable(IEscrowReads))

# @dev The staking contract of that escrow.
STAKING: public(immutable(IProviderStaking))


@deploy
def __init__(escrow: address):
    """
    @param escrow The JobEscrow to read.
    """
    ESCROW = IEscrowReads(escrow)
    STAKING = IProviderStaking(staticcall ESCROW.STAKING())


@external
@view
def provider_of(account: address) -> Provider:
    """
    @notice A provider's stake, allowance and record.
    @param account The owner's address.
    @return All amounts in base units.
    """
    allowance: IProviderStaking.Allowance = staticcall STAKING.allowance(account, ESCROW.address)
    return Provider(
        operator=staticcall STAKING.operator_of(account),
        stake=staticcall STAKING.stake_of(account),
        free_stake=staticcall STAKING.free_stake_of(account),
        allowed=allowance.total,
        allowed_per_job=allowance.per_job,
        locked=allowance.locked,
        balance=staticcall ESCROW.balance_of(account),
        declines=staticcall ESCROW.declines(account),
    )


@external
@view
def refusal(offer: IJobEscrow.Offer, buyer: address, longest_run: uint32) -> String[64]:
    """
    @notice Why a hire for so long would be refused now, in words.
    @param offer The offer, as it was posted.
    @param buyer Whose balance would pay.
    @param longest_run Seconds to hire for.
    @return Empty if nothing stands against it.
    """
    if staticcall ESCROW.is_paused():
        return "new jobs are paused"
    if block.timestamp >= convert(offer.expiry, uint256):
        return "offer has expired"
    if staticcall ESCROW.fee_bps() > convert(offer.max_fee_bps, uint256):
        return "fee above offer's limit"
    if longest_run == 0 or longest_run > offer.longest_run:
        return "longest run is zero or beyond offer"
    state: IJobEscrow.OfferState = staticcall ESCROW.offer_state(
        staticcall ESCROW.offer_id(offer)
    )
    if not state.is_open:
        return "offer not open"
    if state.active >= convert(offer.count, uint256):
        return "offer fully used"
    allowance: IProviderStaking.Allowance = staticcall STAKING.allowance(
        offer.provider, ESCROW.address
    )
    collateral: uint256 = convert(offer.collateral, uint256)
    if collateral > allowance.per_job or allowance.locked + collateral > allowance.total:
        return "provider's allowance does not cover the collateral"
    price: uint256 = convert(offer.price_per_second, uint256) * convert(longest_run, uint256)
    if price > staticcall ESCROW.balance_of(buyer):
        return "not enough balance"
    return ""


@external
@view
def escrowed(terms: IJobEscrow.JobTerms) -> uint256:
    """
    @notice What the escrow holds for a job.
    @param terms The job's terms.
    @return Base units; zero once the job is final, or unknown.
    """
    state: IJobEscrow.JobState = staticcall ESCROW.job_state(staticcall ESCROW.job_id(terms))
    if state.status in (
        IJobEscrow.Status.ACTIVE
        | IJobEscrow.Status.COMMITTED
        | IJobEscrow.Status.DISPUTED
    ):
        return convert(terms.price, uint256) + convert(
            terms.price_per_second, uint256
        ) * convert(terms.longest_run, uint256)
    return 0
