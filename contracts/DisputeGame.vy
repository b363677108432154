# pragma version ~=0.4.3
#pragma optimize codesize
# pragma nonreentrancy on
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title The dispute game
@license GNU Affero General Public License v3.0 only
@author GpuBond
@notice The arbiter of EXACT jobs. Anyone who posts a bond can say that a committed run is
        wrong; asserter and challenger then move in turn, by docs/disputes.md, until one
        evaluation is left that a contract can make. Who does not move in time loses.
        A job of which one game is won is convicted, for good.
@dev It has no admin, and can do no more to a provider than the escrow lets an arbiter of
     an EXACT job do, and no provider has it that has not approved it. No function loops
     over games, and none but `open` and `withdraw` moves tokens, so that neither a token
     nor a crowd of games stops a move or a verdict.

     A verdict is recorded by the move that it follows from; `convict` brings it to the
     escrow. Between the two the job is held, and nothing can release it: `release` needs
     that no game is open, and a game that was won stays open until it is claimed after.

     How it is stopped: a provider withdraws its approval; running jobs end.
"""
from .interfaces import IDisputeGame
from .interfaces import IExaminer
from .interfaces import IJobEscrow
from .interfaces import IProviderStaking
from .modules import errors
from .modules import exact_merkle
from .modules import game_bonds
from .modules import game_clocks
from .modules import game_evidence
from .modules import game_places
from .modules import game_trees
from .modules import terms as job_terms

implements: IDisputeGame

initializes: game_bonds

exports: (
    game_bonds.ESCROW,
    game_bonds.TOKEN,
    game_bonds.GAME_GAS,
    game_bonds.MOVE_GAS,
    game_bonds.MIN_GAS_PRICE,
    game_bonds.RATE,
    game_bonds.MAX_COLLATERAL,
    game_bonds.withdraw,
    game_bonds.balance_of,
    game_bonds.burned,
    game_bonds.minimum_collateral,
    game_bonds.bond_of,
    game_bonds.games_of,
)


# @dev Moves of the longest game that a statement allows, both sides' together, rounded up:
#      RUN and INTERVAL have at most 66 levels together, so at most 15 shows, STEP 3, OUTPUT
#      5, LEAF 1, TOTALS 4, BLOCK 1, and each is answered by one move.
_MOST_MOVES: constant(uint256) = 60

# @dev Seconds between the longest game's end and the escrow's time-out, in which somebody
#      must call `time_out` and `convict`.
_MARGIN: constant(uint256) = 7 * 86_400

# @dev What examines what challengers show, and asks the judge.
EXAMINER: public(immutable(IExaminer))

# @dev Where providers name their operators.
STAKING: public(immutable(IProviderStaking))

# @dev Seconds that each side has at first.
CLOCK: public(immutable(uint256))

# @dev Seconds that each move adds, besides the answer seconds of the terms, which count
#      once for each game that is open on the job when a game opens, itself included.
INCREMENT: public(immutable(uint256))

# @dev Answer seconds of the terms, and of as many games as are counted, at most.
MAX_ANSWER: public(immutable(uint256))

_CHAIN_ID: immutable(uint256)

_STATUS_MASK: constant(uint256) = 2**16 - 1
_DIGEST_SHIFT: constant(uint256) = 56

# @dev Instead of the hash of a position: the game is over, and no other takes its id.
_OVER: constant(bytes32) = 0x0000000000000000000000000000000000000000000000000000000000000001

# @dev Bytes of one move in `move_many`, and moves. Memory is paid for all that could come, so
#      more of either would cost what a batch saves.
_MAX_MOVE: constant(uint256) = 5_120
_MAX_MOVES: constant(uint256) = 8

_MAX_EVIDENCE: constant(uint256) = 12_288


# @dev game -> keccak256 of its Position.
_games: HashMap[bytes32, bytes32]


@deploy
def __init__(
    escrow: address,
    examiner: address,
    clock: uint256,
    increment: uint256,
    max_answer: uint256,
    min_gas_price: uint256,
    rate: uint256,
    max_collateral: uint256,
):
    """
    @dev Games open strictly before the window's end, so that all are over by the window's
         end + two clocks + what all moves add; a verdict needs the escrow to wait longer
         than that, or a liar would play for time and be paid.
    @param escrow The JobEscrow.
    @param examiner The Examiner, and with it the Judge.
    @param clock Seconds that each side has at first: more than it may take to get a
           transaction in against a sequencer's will.
    @param increment Seconds that each move adds.
    @param max_answer Answer seconds of terms, at most.
    @param min_gas_price Wei a unit of gas that bonds reckon with at least.
    @param rate Base units of the token that are reckoned for 10**18 wei.
    @param max_collateral Base units of collateral of a job, at most.
    """
    game_bonds.__init__(escrow, min_gas_price, rate, max_collateral)
    if not examiner.is_contract:
        errors._fail("game: examiner is no contract")
    if clock == 0 or increment == 0:
        errors._fail("game: clock is zero")
    if max(clock, max(increment, max_answer)) >= 2**32:
        errors._fail("game: clock too long")
    longest: uint256 = 2 * clock + _MOST_MOVES * (increment + max_answer)
    if (
        longest + _MARGIN
        > staticcall game_bonds.IEscrow(escrow).EXACT_DISPUTE_TIMEOUT()
    ):
        errors._fail("game: longest game too long")
    EXAMINER = IExaminer(examiner)
    STAKING = IProviderStaking(staticcall game_bonds.IEscrow(escrow).STAKING())
    CLOCK = clock
    INCREMENT = increment
    MAX_ANSWER = max_answer
    _CHAIN_ID = staticcall game_bonds.IEscrow(escrow).CHAIN_ID()


@external
def open(
    terms: IJobEscrow.JobTerms,
    commitment: IJobEscrow.Commitment,
    run: IDisputeGame.Run,
    answer: uint256,
    salt: bytes32,
    max_bond: uint256,
) -> bytes32:
    """
    @notice Opens a game on a committed job, strictly before its challenge window ends. The
            bond comes from the caller's tokens. The first game holds the job.
    @param terms The job's terms; this contract is their arbiter.
    @param commitment What the provider committed to.
    @param run What the statement in the terms is the hash of.
    @param answer The answer seconds in the terms.
    @param salt Any value that makes the game's id unique.
    @param max_bond Base units that the bond may be at most.
    @return The game's id.
    """
    if terms.tier != IJobEscrow.Tier.EXACT:
        errors._fail("game: not on this tier")
    if terms.arbiter != self:
        errors._fail("game: not the arbiter")
    if terms.collateral < game_bonds._least(game_bonds.MIN_GAS_PRICE, game_bonds.RATE):
        errors._fail("game: collateral too low")
    if terms.collateral > game_bonds.MAX_COLLATERAL:
        errors._fail("game: collateral too high")
    if answer > MAX_ANSWER:
        errors._fail("game: answer takes too long")
    exact_terms: bytes32 = empty(bytes32)
    counts: uint256 = 0
    exact_terms, counts = staticcall EXAMINER.terms(run, answer)
    if exact_terms != terms.exact_terms:
        errors._fail("game: not the exact terms")

    job: bytes32 = job_terms._job_id(_CHAIN_ID, game_bonds.ESCROW.address, terms)
    packed: uint256 = game_bonds._require_undecided(job)
    slot: uint256 = staticcall game_bonds.ESCROW.job_slot(job)
    if slot & _STATUS_MASK == convert(IJobEscrow.Status.DISPUTED, uint256):
        if slot >> _DIGEST_SHIFT != job_terms._digest(commitment):
            errors._fail("game: not what was committed")
        if block.timestamp >= commitment.committed_at + terms.challenge_window:
            errors._fail("game: challenge window is over")
    else:
        # The escrow checks state, commitment and window.
        extcall game_bonds.ESCROW.hold(terms, commitment)
    game_bonds._enter(job, packed)

    price: uint256 = game_bonds._price()
    origin: IDisputeGame.Origin = IDisputeGame.Origin(
        job=job,
        program=run.program,
        initial=run.initial,
        data=run.data,
        bond=game_bonds._bond(
            terms.collateral
            + job_terms._escrowed(terms.price, terms.price_per_second, terms.longest_run),
            price,
            packed & (2**32 - 1),
        ),
        price=price,
        number=(packed >> 32) & (2**32 - 1),
    )
    if origin.bond > max_bond:
        errors._fail("game: bond above limit")
    way: IDisputeGame.Way = empty(IDisputeGame.Way)
    way.origin = keccak256(abi_encode(origin))
    way.run = commitment.result_root
    way.counts = counts
    position: IDisputeGame.Position = IDisputeGame.Position(
        # Whoever answers in all open games of the job does one thing after the other.
        clock=game_clocks._started(
            CLOCK,
            INCREMENT + min(answer * ((packed & (2**32 - 1)) + 1), MAX_ANSWER),
        ),
        challenger=msg.sender,
        provider=terms.provider,
        way=keccak256(abi_encode(way)),
        node=commitment.result_root,
        place=game_places._at_root(game_places.RUN, game_evidence._checkpoints(counts)),
    )
    game: bytes32 = keccak256(abi_encode(_CHAIN_ID, self, job, msg.sender, salt))
    if self._games[game] != empty(bytes32):
        errors._fail("game: game exists")
    self._games[game] = keccak256(abi_encode(position))
    log IDisputeGame.GameOpened(
        game=game,
        job=job,
        provider=terms.provider,
        position=position,
        way=way,
        origin=origin,
    )
    game_bonds._take(origin.bond)
    return game


@external
def show_nodes(
    game: bytes32,
    position: IDisputeGame.Position,
    way: DynArray[IDisputeGame.Way, 1],
    path: DynArray[bytes32, exact_merkle.MAX_DEPTH],
    nodes: DynArray[bytes32, game_trees.MAX_NODES],
):
    """
    @notice The asserter shows nodes of a tree. By anyone where there is one choice only,
            that which hashes up to what is known; by the provider's owner or operator in
            the first show of INTERVAL and STEP.
    @param game The game's id.
    @param position The position that this answers.
    @param way For the first show of a level below RUN, else empty.
    @param path Siblings from the picked node up to the one known, from below.
    @param nodes Those that hold leaves.
    """
    found: IDisputeGame.Position = self._answered(game, position, game_places.ASSERTER)
    place: uint256 = found.place
    level: uint256 = game_places._level(place)
    if game_places._side(place) != game_places.ASSERTER or level > game_places.OUTPUT:
        errors._fail("game: not this move")
    leaves: uint256 = game_places._leaves(place)
    left: uint256 = game_places._height(place)
    number: uint256 = game_places._picked_number(place)
    # A fresh level's height is 0 too, and so is that of a leaf.
    begins: bool = left == 0 or game_places._index(place) == game_places.NO_NODE
    below: IDisputeGame.Way = empty(IDisputeGame.Way)
    if begins:
        below = self._shown_way(found, way)
        level, leaves = self._below(place, below)
        left = exact_merkle._depth(leaves)
        number = 0
    levels: uint256 = game_trees._levels(left)
    left = unsafe_sub(left, levels)
    kind: uint256 = self._kind(level)
    node: bytes32 = game_trees._joined(
        kind, left, levels, game_trees._held(leaves, left, levels, number), nodes
    )
    found.place = game_places._shown(place, level, leaves, left, levels, number)
    if not begins:
        self._require_under(place, found.node, kind, node, path)
    elif level == game_places.OUTPUT:
        self._require_output(place, found.node, below.shape, node, path)
    elif level == game_places.STATE:
        if not staticcall EXAMINER.is_state(
            below, empty(bytes32), below.step + 1, node, path
        ):
            errors._fail("game: not the state")
    else:
        # The root is bound to nothing.
        self._require_asserter(found.provider)
        below.step = self._step_below(place, below)
        if level == game_places.INTERVAL:
            below.interval = node
        else:
            below.outputs = node
            if game_evidence._states(below.counts) == 1:
                found.place = game_places._with_single_state(found.place)
        found.way = keccak256(abi_encode(below))
    found.node = node
    self._advance(game, found)
    log IDisputeGame.NodesShown(
        game=game,
        clock=found.clock,
        way=found.way,
        node=node,
        place=found.place,
        nodes=nodes,
    )


@external
def show_leaf(
    game: bytes32,
    position: IDisputeGame.Position,
    way: DynArray[IDisputeGame.Way, 1],
    path: DynArray[bytes32, game_trees.MAX_LEVELS],
    leaf: Bytes[exact_merkle.LEAF_BYTES],
):
    """
    @notice The asserter shows 64 elements of the output. By anyone, since there is one
            choice only.
    @param game The game's id.
    @param position The position that this answers.
    @param way If the output has one leaf only, else empty.
    @param path Siblings from the leaf's hash up to the node known, from below; of an
           output with one leaf, from its commitment.
    @param leaf The 256 bytes.
    """
    found: IDisputeGame.Position = self._answered(game, position, game_places.ASSERTER)
    place: uint256 = found.place
    game_places._require(place, game_places.OUTPUT, game_places.ASSERTER)
    hash: bytes32 = exact_merkle._leaf(exact_merkle.ELEMENTS, leaf)
    number: uint256 = 0
    if game_places._is_fresh(place):
        if game_places._leaves(place) != 1:
            errors._fail("game: not this move")
        shape: uint256 = self._shown_way(found, way).shape
        self._require_output(place, found.node, shape, hash, path)
    else:
        game_places._require_leaves(place)
        number = game_places._picked_number(place)
        self._require_under(place, found.node, exact_merkle.ELEMENTS, hash, path)
    game_places._require_padding(place, number, leaf)
    found.node = hash
    found.place = game_places._leaf(place, number)
    self._advance(game, found)
    self._log_bytes(game, found, leaf)


@external
def show_totals(game: bytes32, position: IDisputeGame.Position, totals: Bytes[508]):
    """
    @notice The asserter shows totals of a reduction; of at most 64 blocks also their
            sums, first. By the provider's owner or operator.
    @param game The game's id.
    @param position The position that this answers.
    @param totals Values of 4 bytes.
    """
    self._show_values(game, position, game_places.TOTALS, totals)


@external
def show_accumulators(
    game: bytes32, position: IDisputeGame.Position, accumulators: Bytes[124]
):
    """
    @notice The asserter shows the accumulators of a block after 16, 32, … terms. By the
            provider's owner or operator.
    @param game The game's id.
    @param position The position that this answers.
    @param accumulators Values of 4 bytes.
    """
    self._show_values(game, position, game_places.BLOCK, accumulators)


@external
def pick_node(game: bytes32, position: IDisputeGame.Position, index: uint256):
    """
    @notice The challenger picks the first wrong one of the nodes shown last, or none in
            the first show of INTERVAL and STEP.
    @param game The game's id.
    @param position The position that this answers.
    @param index Among those shown; 64 is none.
    """
    found: IDisputeGame.Position = self._challenged(game, position)
    found.place = game_places._picked(found.place, index)
    self._picked(game, found)


@external
def pick_operation(
    game: bytes32,
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
    index: uint256,
    record: Bytes[128],
    record_path: DynArray[bytes32, 18],
    output: bytes32,
    output_path: DynArray[bytes32, game_trees.MAX_LEVELS],
):
    """
    @notice The challenger picks the first operation of the step whose output is wrong. If
            its output has no elements, that ends the game.
    @param game The game's id.
    @param position The position that this answers.
    @param way As it is hashed in the position.
    @param origin As it is hashed in the way.
    @param index Among the outputs shown last.
    @param record The operation's.
    @param record_path Its siblings in the program's tree, from below.
    @param output The hash of the output's leaf, as it was shown, if it has no elements.
    @param output_path Its siblings up to the node known, from below.
    """
    found: IDisputeGame.Position = self._challenged(game, position)
    below: IDisputeGame.Way = way
    self._require_origin(found, below, origin)
    # Refuses a record that is not valid.
    picked: IExaminer.Picked = staticcall EXAMINER.operation(
        below.counts, origin.program, found.place, index, record, record_path
    )
    below.operation = picked.operation
    below.record = keccak256(record)
    below.shape = picked.shape
    if picked.elements == 0:
        self._require_under(
            game_places._with_index(found.place, index),
            found.node,
            exact_merkle.STEP,
            output,
            output_path,
        )
        right: bytes32 = exact_merkle._short_leaf(
            exact_merkle.STEP, game_trees._commitment(picked.shape, empty(bytes32))
        )
        self._end(game, found.provider, origin, output != right)
        return

    found.way = keccak256(abi_encode(below))
    found.place = picked.place
    self._advance(game, found)
    log IDisputeGame.OperationPicked(
        game=game, clock=found.clock, place=found.place, way=below, record=record
    )


@external
def pick_element(
    game: bytes32,
    position: IDisputeGame.Position,
    leaf: Bytes[exact_merkle.LEAF_BYTES],
    index: uint256,
):
    """
    @notice The challenger picks a wrong element of a reduction of more than 16 terms.
    @param game The game's id.
    @param position The position that this answers.
    @param leaf As it was shown.
    @param index Among its 64 elements.
    """
    found: IDisputeGame.Position = self._challenged(game, position)
    element: uint256 = self._element_of(found, leaf, index)
    if game_places._terms(found.place) <= game_places.RUN_TERMS:
        errors._fail("game: evaluate the element")
    found.place = game_places._reduction(
        found.place, element, exact_merkle._bits(leaf, index)
    )
    found.node = empty(bytes32)
    self._picked(game, found)


@external
def pick_segment(
    game: bytes32, position: IDisputeGame.Position, totals: Bytes[508], segment: uint256
):
    """
    @notice The challenger picks the segment of blocks in which the first wrong total is.
    @param game The game's id.
    @param position The position that this answers.
    @param totals As they were shown.
    @param segment From 0.
    """
    found: IDisputeGame.Position = self._challenged(game, position)
    self._require_values(found, game_places.TOTALS, totals)
    found.place = staticcall EXAMINER.segment(found.place, totals, segment)
    found.node = empty(bytes32)
    self._picked(game, found)


@external
def pick_block(
    game: bytes32, position: IDisputeGame.Position, totals: Bytes[508], index: uint256
):
    """
    @notice The challenger picks a block whose sum is wrong.
    @param game The game's id.
    @param position The position that this answers.
    @param totals As they were shown, sums first.
    @param index Among the blocks in doubt.
    """
    found: IDisputeGame.Position = self._challenged(game, position)
    self._require_values(found, game_places.TOTALS, totals)
    found.place = game_places._block_picked(found.place, totals, index)
    found.node = empty(bytes32)
    self._picked(game, found)


@external
def judge_join(
    game: bytes32,
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
    totals: Bytes[508],
    index: uint256,
):
    """
    @notice The challenger says that a total is not what a block's sum gives, and ends the game.
    @param game The game's id.
    @param position The position that this answers.
    @param way As it is hashed in the position.
    @param origin As it is hashed in the way.
    @param totals As they were shown, sums first.
    @param index Of the block, among those in doubt.
    """
    found: IDisputeGame.Position = self._challenged(game, position)
    self._require_origin(found, way, origin)
    self._require_values(found, game_places.TOTALS, totals)
    right: bool = staticcall EXAMINER.is_join(found.place, totals, index)
    self._end(game, found.provider, origin, not right)


@external
def judge_element(
    game: bytes32,
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
    leaf: Bytes[exact_merkle.LEAF_BYTES],
    index: uint256,
    evidence: Bytes[_MAX_EVIDENCE],
):
    """
    @notice The challenger has an element evaluated, and ends the game.
    @param game The game's id.
    @param position The position that this answers.
    @param way As it is hashed in the position.
    @param origin As it is hashed in the way.
    @param leaf As it was shown.
    @param index Among its 64 elements.
    @param evidence The operands, an abi-encoded Evidence.
    """
    found: IDisputeGame.Position = self._challenged(game, position)
    self._require_origin(found, way, origin)
    element: uint256 = self._element_of(found, leaf, index)
    terms: uint256 = game_places._terms(found.place)
    right: uint256 = staticcall EXAMINER.element(way, origin, element, terms, evidence)
    self._end(game, found.provider, origin, right != exact_merkle._bits(leaf, index))


@external
def judge_run(
    game: bytes32,
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
    accumulators: Bytes[124],
    index: uint256,
    evidence: Bytes[_MAX_EVIDENCE],
):
    """
    @notice The challenger has at most 16 terms of a block evaluated, and ends the game.
    @param game The game's id.
    @param position The position that this answers.
    @param way As it is hashed in the position.
    @param origin As it is hashed in the way.
    @param accumulators As they were shown; empty if none were.
    @param index Of the run in its block.
    @param evidence The operands, an abi-encoded Evidence.
    """
    found: IDisputeGame.Position = self._challenged(game, position)
    self._require_origin(found, way, origin)
    # The examiner refuses another level.
    if game_places._runs(found.place) > 1:
        self._require_values(found, game_places.BLOCK, accumulators)
    right: bool = staticcall EXAMINER.is_run(
        way, origin, found.place, accumulators, index, evidence
    )
    self._end(game, found.provider, origin, not right)


@external
def judge_state(
    game: bytes32,
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
    index: uint256,
    evidence: Bytes[_MAX_EVIDENCE],
):
    """
    @notice The challenger says that a tensor of the next state is not the one that its record
            names, and ends the game. A state of one tensor is judged after the first show of
            STEP, in the place of picking none.
    @param game The game's id.
    @param position The position that this answers.
    @param way As it is hashed in the position.
    @param origin As it is hashed in the way.
    @param index Among the nodes shown last; 0 if there is one tensor only.
    @param evidence The tensor's record, its commitment and that of what it names: an
           abi-encoded Next.
    """
    found: IDisputeGame.Position = self._challenged(game, position)
    self._require_origin(found, way, origin)
    right: bool = staticcall EXAMINER.is_next(
        way, origin, found.node, found.place, index, evidence
    )
    self._end(game, found.provider, origin, not right)


@external
def time_out(
    game: bytes32,
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
):
    """
    @notice Ends a game against the side whose clock is over. By anyone.
    @param game The game's id.
    @param position Where it is.
    @param way As it is hashed in the position.
    @param origin As it is hashed in the way.
    """
    found: IDisputeGame.Position = self._shown_position(game, position)
    self._require_origin(found, way, origin)
    side: uint256 = game_places._side(found.place)
    if block.timestamp < game_clocks._deadline(found.clock, side):
        errors._fail("game: clock is not over")
    self._end(game, found.provider, origin, side == game_places.ASSERTER)


@external
def release(terms: IJobEscrow.JobTerms):
    """
    @notice Lets a job go on of which every game was lost: it can settle from the window's
            end on. By anyone.
    @param terms The job's terms.
    """
    job: bytes32 = job_terms._job_id(_CHAIN_ID, game_bonds.ESCROW.address, terms)
    packed: uint256 = game_bonds._require_undecided(job)
    if packed & (2**32 - 1) != 0:
        errors._fail("game: a game is open")
    extcall game_bonds.ESCROW.release(terms)


@external
def convict(terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment):
    """
    @notice Brings a conviction to the escrow, which slashes and refunds. By anyone.
    @param terms The job's terms.
    @param commitment What the provider committed to.
    """
    job: bytes32 = job_terms._job_id(_CHAIN_ID, game_bonds.ESCROW.address, terms)
    share: uint256 = job_terms._arbiter_cap(terms.collateral)
    games: uint256 = game_bonds._tell(job, share)
    extcall game_bonds.ESCROW.convict(terms, commitment, share)
    log IDisputeGame.JobConvicted(job=job, share=share, games=games)


@external
def claim(
    game: bytes32,
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
):
    """
    @notice Gives the challenger of a game that was open at the conviction its bond and a
            refund of its gas; the last claim of a job gives what remains of the share to the
            earliest-opened of these games. By anyone, also for the others.
    @param game The game's id.
    @param position Where it is.
    @param way As it is hashed in the position.
    @param origin As it is hashed in the way.
    """
    found: IDisputeGame.Position = self._shown_position(game, position)
    self._require_origin(found, way, origin)
    self._games[game] = _OVER
    refund: uint256 = game_bonds._claim(
        origin, found.challenger, game_clocks._moves(found.clock)
    )
    log IDisputeGame.Claimed(
        game=game,
        job=origin.job,
        challenger=found.challenger,
        bond=origin.bond,
        refund=refund,
    )


@external
@reentrant
def move_many(moves: DynArray[Bytes[_MAX_MOVE], _MAX_MOVES]):
    """
    @notice Makes several calls of this contract as if each were the caller's own: all or none.
    @param moves Calldata of each.
    """
    for move: Bytes[_MAX_MOVE] in moves:
        raw_call(self, move, is_delegate_call=True)


@external
@view
def position(game: bytes32) -> bytes32:
    """
    @notice The hash of a game's position.
    @param game The game's id.
    @return Zero if there is no such game, one if it is over.
    """
    return self._games[game]


@internal
@view
def _shown_position(
    game: bytes32, position: IDisputeGame.Position
) -> IDisputeGame.Position:
    if keccak256(abi_encode(position)) != self._games[game]:
        errors._fail("game: not this position")
    return position


@internal
@view
def _answered(
    game: bytes32, position: IDisputeGame.Position, side: uint256
) -> IDisputeGame.Position:
    # The position, with the clock as it is after a move of this side.
    found: IDisputeGame.Position = self._shown_position(game, position)
    found.clock = game_clocks._moved(found.clock, side)
    return found


@internal
@view
def _challenged(
    game: bytes32, position: IDisputeGame.Position
) -> IDisputeGame.Position:
    found: IDisputeGame.Position = self._answered(game, position, game_places.CHALLENGER)
    if msg.sender != found.challenger:
        errors._fail("game: not the challenger")
    return found


@internal
@view
def _require_asserter(provider: address):
    if not (msg.sender == provider or staticcall STAKING.is_operator(provider, msg.sender)):
        errors._fail("game: not the provider")


@internal
@pure
def _shown_way(
    position: IDisputeGame.Position, way: DynArray[IDisputeGame.Way, 1]
) -> IDisputeGame.Way:
    if len(way) != 1:
        errors._fail("game: way is missing")
    found: IDisputeGame.Way = way[0]
    if keccak256(abi_encode(found)) != position.way:
        errors._fail("game: not this way")
    return found


@internal
@pure
def _require_origin(
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
):
    if keccak256(abi_encode(way)) != position.way:
        errors._fail("game: not this way")
    if keccak256(abi_encode(origin)) != way.origin:
        errors._fail("game: not this origin")


@internal
@pure
def _require_under(
    place: uint256,
    known: bytes32,
    kind: uint256,
    node: bytes32,
    path: DynArray[bytes32, exact_merkle.MAX_DEPTH],
):
    # The node is the one that was picked.
    if len(path) != game_places._levels(place):
        errors._fail("game: path has another length")
    if game_trees._above(kind, node, game_places._index(place), path) != known:
        errors._fail("game: not under the node")


@internal
@pure
def _require_output(
    place: uint256,
    known: bytes32,
    shape: uint256,
    root: bytes32,
    path: DynArray[bytes32, exact_merkle.MAX_DEPTH],
):
    # These are the elements of the output that was picked.
    commitment: bytes32 = game_trees._commitment(shape, root)
    leaf: bytes32 = exact_merkle._short_leaf(exact_merkle.STEP, commitment)
    self._require_under(place, known, exact_merkle.STEP, leaf, path)


@internal
@pure
def _require_values(position: IDisputeGame.Position, level: uint256, raw: Bytes[508]):
    # What the asserter showed last.
    game_places._require(position.place, level, game_places.CHALLENGER)
    if keccak256(raw) != position.node:
        errors._fail("game: not what was shown")


@internal
@pure
def _element_of(
    position: IDisputeGame.Position, leaf: Bytes[exact_merkle.LEAF_BYTES], index: uint256
) -> uint256:
    # The number of an element of the leaf that was shown.
    game_places._require(position.place, game_places.LEAF, game_places.CHALLENGER)
    if exact_merkle._leaf(exact_merkle.ELEMENTS, leaf) != position.node:
        errors._fail("game: not what was shown")
    return game_places._element_picked(position.place, index)


@internal
@pure
def _kind(level: uint256) -> uint256:
    if level == game_places.OUTPUT:
        return exact_merkle.ELEMENTS
    if level == game_places.STATE:
        return exact_merkle.STATE
    # RUN, INTERVAL and STEP follow each other in both.
    return level + (exact_merkle.RUN - game_places.RUN)


@internal
@pure
def _below(place: uint256, way: IDisputeGame.Way) -> (uint256, uint256):
    # The level that begins, and its leaves.
    level: uint256 = game_places._level(place)
    if level == game_places.RUN:
        begin: uint256 = self._step_below(place, way)
        size: uint256 = game_evidence._end(way.counts, begin) - begin
        if size > 1:
            return game_places.INTERVAL, size - 1
    if level <= game_places.INTERVAL:
        return game_places.STEP, game_evidence._ops(way.counts)
    # What is below a leaf are no nodes, and an output of one leaf has none.
    if not game_places._is_fresh(place):
        errors._fail("game: not this move")
    if level == game_places.STATE:
        return level, game_evidence._states(way.counts)
    if game_places._leaves(place) <= 1:
        errors._fail("game: not this move")
    return level, game_places._leaves(place)


@internal
@pure
def _step_below(place: uint256, way: IDisputeGame.Way) -> uint256:
    # The first step of the checkpoint's interval that was picked, or the step whose next
    # state was.
    if game_places._level(place) == game_places.RUN:
        return game_places._picked_number(place) * game_evidence._interval(way.counts)
    if game_places._index(place) == game_places.NO_NODE:
        return game_evidence._end(way.counts, way.step) - 1
    return way.step + game_places._picked_number(place)


@internal
def _advance(game: bytes32, position: IDisputeGame.Position):
    self._games[game] = keccak256(abi_encode(position))


@internal
def _picked(game: bytes32, position: IDisputeGame.Position):
    self._advance(game, position)
    log IDisputeGame.Picked(
        game=game,
        clock=position.clock,
        node=position.node,
        place=position.place,
    )


@internal
def _show_values(
    game: bytes32, position: IDisputeGame.Position, level: uint256, raw: Bytes[508]
):
    found: IDisputeGame.Position = self._answered(game, position, game_places.ASSERTER)
    game_places._require(found.place, level, game_places.ASSERTER)
    # They are bound to nothing.
    self._require_asserter(found.provider)
    size: uint256 = 4 * (game_places._runs(found.place) - 1)
    if level == game_places.TOTALS:
        size = game_places._totals_size(found.place)
    if len(raw) != size:
        errors._fail("game: another number of values")
    found.node = keccak256(raw)
    found.place = found.place | game_places.CHALLENGER
    self._advance(game, found)
    self._log_bytes(game, found, raw)


@internal
def _log_bytes(game: bytes32, position: IDisputeGame.Position, raw: Bytes[508]):
    log IDisputeGame.BytesShown(
        game=game,
        clock=position.clock,
        node=position.node,
        place=position.place,
        raw=raw,
    )


@internal
def _end(
    game: bytes32,
    provider: address,
    origin: IDisputeGame.Origin,
    convicted: bool,
):
    paid: uint256 = 0
    gone: uint256 = 0
    if convicted:
        # The game stays where it is, for its claim.
        game_bonds._won(origin.job)
    else:
        self._games[game] = _OVER
        paid, gone = game_bonds._lost(origin.job, provider, origin.bond, origin.price)
    log IDisputeGame.GameEnded(
        game=game,
        job=origin.job,
        convicted=convicted,
        to_provider=paid,
        burned=gone,
    )
