# pragma version ~=0.4.3
# pragma nonreentrancy on
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Offers of providers
@license GNU Affero General Public License v3.0 only
@notice An offer's id is the hash of its fields; state keeps whether it is open
        and how many of its jobs run, so posting costs one slot.
"""
from ..interfaces import IJobEscrow
from ..interfaces import IProviderStaking

# @dev Where the stake behind the offers lies.
STAKING: public(immutable(IProviderStaking))

# @dev Bounds that keep every deadline of a job within sight.
_MAX_RUN: constant(uint256) = 366 * 86_400
_MAX_WINDOW: constant(uint256) = 90 * 86_400
_BPS: constant(uint256) = 10_000

# @dev Above the counter of running jobs.
_OPEN_BIT: constant(uint256) = 1 << 255

# @dev offer id -> open (bit 255) | running jobs (low bits).
_states: HashMap[bytes32, uint256]


@deploy
def __init__(staking: IProviderStaking):
    """
    @param staking The ProviderStaking contract.
    """
    assert staking.address.is_contract, "escrow: staking is no contract"
    STAKING = staking


@external
def post_offer(offer: IJobEscrow.Offer) -> bytes32:
    """
    @notice Opens an offer, or opens it again after a decline closed it.
            By the provider's owner or operator.
    @param offer All of its fields.
    @return The offer's id.
    """
    assert staticcall STAKING.is_operator(
        offer.provider, msg.sender
    ), "escrow: not owner or operator"
    assert offer.resource_class != empty(bytes32), "escrow: class is empty"
    assert offer.count != 0, "escrow: count is zero"
    assert offer.price_per_second != 0, "escrow: price is zero"
    assert offer.collateral != 0, "escrow: collateral is zero"
    assert offer.longest_run != 0, "escrow: longest run is zero"
    assert convert(offer.longest_run, uint256) <= _MAX_RUN, "escrow: longest run too long"
    assert convert(offer.acknowledge_window, uint256) <= _MAX_WINDOW, "escrow: window too long"
    assert convert(offer.delivery_margin, uint256) <= _MAX_WINDOW, "escrow: window too long"
    assert convert(offer.challenge_window, uint256) <= _MAX_WINDOW, "escrow: window too long"
    assert convert(offer.failure_cap_bps, uint256) <= _BPS, "escrow: failure cap too high"
    assert offer.expiry > convert(block.timestamp, uint64), "escrow: offer has expired"
    # The highest price of a job must fit into the terms.
    assert (
        convert(offer.price_per_second, uint256) * convert(offer.longest_run, uint256)
        <= convert(max_value(uint128), uint256)
    ), "escrow: price too high"
    assert offer.tiers != empty(IJobEscrow.Tier), "escrow: no tier"
    assert (
        offer.tiers & (IJobEscrow.Tier.REPLICATED | IJobEscrow.Tier.ATTESTED)
        == empty(IJobEscrow.Tier)
    ), "escrow: tier not open yet"
    if IJobEscrow.Tier.EXACT in offer.tiers:
        assert offer.arbiter.is_contract, "escrow: arbiter is no contract"
        assert offer.challenge_window != 0, "escrow: no challenge window"
    else:
        assert offer.arbiter == empty(address), "escrow: arbiter without EXACT"

    offer_id: bytes32 = self._offer_id(offer)
    state: uint256 = self._states[offer_id]
    assert state & _OPEN_BIT == 0, "escrow: offer already open"
    self._states[offer_id] = state | _OPEN_BIT
    log IJobEscrow.OfferPosted(
        offer_id=offer_id,
        provider=offer.provider,
        resource_class=offer.resource_class,
        offer=offer,
    )
    return offer_id


@external
def close_offer(offer: IJobEscrow.Offer):
    """
    @notice Closes an offer; its running jobs go on. By owner or operator.
    @param offer All of its fields.
    """
    assert staticcall STAKING.is_operator(
        offer.provider, msg.sender
    ), "escrow: not owner or operator"
    offer_id: bytes32 = self._offer_id(offer)
    assert self._states[offer_id] & _OPEN_BIT != 0, "escrow: offer not open"
    self._close(offer_id, offer.provider)


@external
@view
def offer_state(offer_id: bytes32) -> IJobEscrow.OfferState:
    """
    @notice Whether an offer can be hired, and how many of its jobs run.
    @param offer_id The hash of its fields.
    @return Its state; closed and zero for an unknown offer.
    """
    state: uint256 = self._states[offer_id]
    return IJobEscrow.OfferState(
        is_open=state & _OPEN_BIT != 0, active=state & ~_OPEN_BIT
    )


@external
@view
def offer_id(offer: IJobEscrow.Offer) -> bytes32:
    """
    @notice The id of an offer on this chain and escrow.
    @param offer All of its fields.
    @return The hash of its fields.
    """
    return self._offer_id(offer)


@internal
@view
def _offer_id(offer: IJobEscrow.Offer) -> bytes32:
    return keccak256(abi_encode(chain.id, self, offer))


@internal
def _take(offer_id: bytes32, count: uint32):
    state: uint256 = self._states[offer_id]
    assert state & _OPEN_BIT != 0, "escrow: offer not open"
    assert state & ~_OPEN_BIT < convert(count, uint256), "escrow: offer fully used"
    self._states[offer_id] = state + 1


@internal
def _give_back(offer_id: bytes32):
    # Each job took one and gives it back once, so the counter is not zero.
    self._states[offer_id] -= 1


@internal
def _close(offer_id: bytes32, provider: address):
    state: uint256 = self._states[offer_id]
    if state & _OPEN_BIT != 0:
        self._states[offer_id] = state & ~_OPEN_BIT
        log IJobEscrow.OfferClosed(offer_id=offer_id, provider=provider)
