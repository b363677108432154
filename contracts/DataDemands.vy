# pragma version ~=0.4.3
# pragma nonreentrancy on
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Demands for the data of a committed result
@license GNU Affero General Public License v3.0 only
@author GpuBond
@notice The arbiter of BASIC jobs whose provider promises to show its result on
        chain if it must. A buyer that is not served demands chunks; the job is
        held until each is answered, and ends as expired if one is not in time.
        A demand shows possession and is no fair exchange: the chunk becomes
        public, and a buyer can fetch a small result this way only.
@dev It has no admin, and can do no more to a provider than the escrow lets an
     arbiter of a BASIC job do, and no provider has it that has not approved it.
     Invariant: token balance >= sum of claims + fees of open demands.
     It does not judge EXACT jobs, nor those of another escrow: one that names it
     all the same has an arbiter that never speaks. Clients refuse such terms.
     How it is stopped: a provider withdraws its approval; running jobs end.
"""
from ethereum.ercs import IERC20

from .interfaces import IDataDemands
from .interfaces import IJobEscrow
from .modules import merkle
from .modules import terms as job_terms

implements: IDataDemands


interface IEscrow:
    def CHAIN_ID() -> uint256: view
    def TOKEN() -> address: view
    def job_slot(job: bytes32) -> uint256: view
    def hold(terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment): nonpayable
    def release(terms: IJobEscrow.JobTerms): nonpayable
    def convict(
        terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment, to_arbiter: uint256
    ): nonpayable
    def deposit(amount: uint256, account: address): nonpayable


# @dev Demands of one job that may wait at once.
LANES: public(constant(uint256)) = 8

# @dev Seconds to answer in: the delay within which a rollup's users can force a
#      transaction in is of this order.
ANSWER_WINDOW: public(constant(uint256)) = 86_400

# @dev Whose jobs it holds.
ESCROW: public(immutable(IEscrow))

# @dev The escrow's token.
TOKEN: public(immutable(IERC20))

# @dev Base units that a buyer deposits for a demand, and that its answer earns.
#      It pays for a part of the answer's gas, and makes a demand cost something.
ANSWER_FEE: public(immutable(uint256))

_CHAIN_ID: immutable(uint256)

_LOW_64: constant(uint256) = 2**64 - 1
_STATUS_MASK: constant(uint256) = 2**16 - 1
_DIGEST_SHIFT: constant(uint256) = 56
_RESULT_TAG: constant(Bytes[16]) = b"GPUBOND-RESULT-1"


# @dev Base units that each account can have moved into its escrow balance.
claimable: public(HashMap[address, uint256])

# @dev job -> bit i: the demand in lane i waits.
_open: HashMap[bytes32, uint256]

# @dev job -> lane -> index of the chunk (low 64 bits) | last second of answering.
_demands: HashMap[bytes32, HashMap[uint256, uint256]]


@deploy
def __init__(escrow: address, answer_fee: uint256):
    """
    @param escrow The JobEscrow.
    @param answer_fee Base units for each demand.
    """
    assert escrow.is_contract, "demands: escrow is no contract"
    assert answer_fee != 0, "demands: fee is zero"
    assert answer_fee < 2**128, "demands: fee too large"
    ESCROW = IEscrow(escrow)
    TOKEN = IERC20(staticcall IEscrow(escrow).TOKEN())
    ANSWER_FEE = answer_fee
    _CHAIN_ID = staticcall IEscrow(escrow).CHAIN_ID()
    assert extcall IERC20(staticcall IEscrow(escrow).TOKEN()).approve(
        escrow, max_value(uint256), default_return_value=True
    ), "demands: approval failed"


@external
def demand(
    terms: IJobEscrow.JobTerms,
    commitment: IJobEscrow.Commitment,
    indexes: DynArray[uint256, LANES],
):
    """
    @notice Demands chunks of the committed result; the first demand holds the job.
            By the job's buyer, before the challenge window ends. It pays the
            answer fee for each, from its tokens; unanswered ones come back.
    @param terms The job's terms; this contract is their arbiter.
    @param commitment What the provider committed to.
    @param indexes Numbers of chunks, each below the committed count.
    """
    job: bytes32 = job_terms._job_id(_CHAIN_ID, ESCROW.address, terms)
    assert msg.sender == terms.buyer, "demands: not the buyer"
    assert terms.tier == IJobEscrow.Tier.BASIC, "demands: not on this tier"
    assert len(indexes) != 0, "demands: nothing demanded"
    lanes: uint256 = self._open[job]
    if lanes == 0:
        # The escrow checks state, arbiter, commitment and window.
        extcall ESCROW.hold(terms, commitment)
    else:
        self._require_held(job, commitment)
        assert (
            block.timestamp < commitment.committed_at + terms.challenge_window
        ), "demands: challenge window is over"

    answer_by: uint256 = block.timestamp + ANSWER_WINDOW
    for index: uint256 in indexes:
        assert index < commitment.chunks, "demands: no such chunk"
        lane: uint256 = self._free_lane(lanes)
        lanes |= 1 << lane
        self._demands[job][lane] = (answer_by << 64) | index
        log IDataDemands.DataDemanded(
            job=job, provider=terms.provider, lane=lane, index=index, answer_by=answer_by
        )
    self._open[job] = lanes

    amount: uint256 = len(indexes) * ANSWER_FEE
    before: uint256 = staticcall TOKEN.balanceOf(self)
    assert extcall TOKEN.transferFrom(
        msg.sender, self, amount, default_return_value=True
    ), "demands: transfer failed"
    assert staticcall TOKEN.balanceOf(self) - before == amount, "demands: token takes a fee"


@external
def answer(
    terms: IJobEscrow.JobTerms,
    commitment: IJobEscrow.Commitment,
    lane: uint256,
    proof: IDataDemands.ChunkProof,
):
    """
    @notice Answers a demand; its fee is the provider's. By anyone who has the
            chunk. The last answer releases the job.
    @dev No token moves, so the token cannot make an answer fail.
    @param terms The job's terms.
    @param commitment What the provider committed to.
    @param lane The demand's lane.
    @param proof The chunk that was demanded. It stays in the calldata.
    """
    job: bytes32 = job_terms._job_id(_CHAIN_ID, ESCROW.address, terms)
    lanes: uint256 = self._require_open(job, lane)
    self._require_held(job, commitment)
    packed: uint256 = self._demands[job][lane]
    assert block.timestamp <= packed >> 64, "demands: too late to answer"
    index: uint256 = packed & _LOW_64
    self._check_proof(commitment, index, proof)

    lanes ^= 1 << lane
    self._open[job] = lanes
    self.claimable[terms.provider] += ANSWER_FEE
    log IDataDemands.DataAnswered(job=job, lane=lane, index=index)
    if lanes == 0:
        extcall ESCROW.release(terms)


@external
def expire(
    terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment, lane: uint256
):
    """
    @notice Ends a job whose provider left a demand unanswered, as if nothing had
            been delivered. By anyone; nobody earns by reporting.
    @param terms The job's terms.
    @param commitment What the provider committed to.
    @param lane The demand's lane.
    """
    job: bytes32 = job_terms._job_id(_CHAIN_ID, ESCROW.address, terms)
    lanes: uint256 = self._require_open(job, lane)
    assert block.timestamp > self._demands[job][lane] >> 64, "demands: not due yet"

    self._give_back(job, lanes, terms.buyer)
    log IDataDemands.DataWithheld(job=job, lane=lane)
    extcall ESCROW.convict(terms, commitment, 0)


@external
def reclaim(terms: IJobEscrow.JobTerms):
    """
    @notice Gives the buyer its fees back if its job ended without this contract:
            nobody called `expire` until the escrow's own time-out. By anyone.
    @param terms The job's terms.
    """
    job: bytes32 = job_terms._job_id(_CHAIN_ID, ESCROW.address, terms)
    lanes: uint256 = self._open[job]
    assert lanes != 0, "demands: no such demand"
    assert not self._is_held(job), "demands: job is not over"
    self._give_back(job, lanes, terms.buyer)


@external
def collect(account: address):
    """
    @notice Moves an account's fees into its balance in the escrow. By anyone.
    @param account Whose fees.
    """
    amount: uint256 = self.claimable[account]
    assert amount != 0, "demands: nothing to collect"
    self.claimable[account] = 0
    extcall ESCROW.deposit(amount, account)
    log IDataDemands.Collected(account=account, amount=amount)


@external
@view
def demand_of(job: bytes32, lane: uint256) -> IDataDemands.Demand:
    """
    @notice The demand that is, or was last, in a lane.
    @param job The job's id.
    @param lane From 0 to 7.
    @return Whether it waits, index of the chunk, last second of answering.
    """
    packed: uint256 = self._demands[job][lane]
    return IDataDemands.Demand(
        is_open=lane < LANES and (self._open[job] >> lane) & 1 == 1,
        index=packed & _LOW_64,
        answer_by=packed >> 64,
    )


@internal
def _give_back(job: bytes32, lanes: uint256, buyer: address):
    self._open[job] = 0
    self.claimable[buyer] += self._count(lanes) * ANSWER_FEE


@internal
@view
def _is_held(job: bytes32) -> bool:
    slot: uint256 = staticcall ESCROW.job_slot(job)
    return slot & _STATUS_MASK == convert(IJobEscrow.Status.DISPUTED, uint256)


@internal
@view
def _require_held(job: bytes32, commitment: IJobEscrow.Commitment):
    slot: uint256 = staticcall ESCROW.job_slot(job)
    assert (
        slot & _STATUS_MASK == convert(IJobEscrow.Status.DISPUTED, uint256)
    ), "demands: job is not held"
    assert (
        slot >> _DIGEST_SHIFT == job_terms._digest(commitment)
    ), "demands: not what was committed"


@internal
@view
def _require_open(job: bytes32, lane: uint256) -> uint256:
    lanes: uint256 = self._open[job]
    assert lane < LANES and (lanes >> lane) & 1 == 1, "demands: no such demand"
    return lanes


@internal
@pure
def _free_lane(lanes: uint256) -> uint256:
    for lane: uint256 in range(LANES):
        if (lanes >> lane) & 1 == 0:
            return lane
    raise "demands: too many demands"


@internal
@pure
def _count(lanes: uint256) -> uint256:
    count: uint256 = 0
    for lane: uint256 in range(LANES):
        count += (lanes >> lane) & 1
    return count


@internal
@pure
def _check_proof(
    commitment: IJobEscrow.Commitment, index: uint256, proof: IDataDemands.ChunkProof
):
    size: uint256 = convert(proof.bundle_size, uint256)
    assert len(proof.chunk) == merkle.CHUNK_BYTES, "demands: chunk is not 4096 bytes"
    # A provider that committed to fewer chunks than its bundle has fails here.
    assert (
        (size + merkle.CHUNK_BYTES - 1) // merkle.CHUNK_BYTES == commitment.chunks
    ), "demands: bundle of another size"
    assert (
        len(proof.path) == merkle._depth(commitment.chunks)
    ), "demands: path of another length"
    root: bytes32 = merkle._root(merkle._leaf(proof.chunk), index, proof.path)
    header: Bytes[32] = concat(
        _RESULT_TAG,
        convert(proof.bundle_size, bytes8),
        convert(proof.manifest_size, bytes8),
    )
    assert (
        sha256(concat(header, root)) == commitment.result_root
    ), "demands: chunk is not of the result"
