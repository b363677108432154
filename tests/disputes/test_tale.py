# SPDX-License-Identifier: Apache-2.0
"""The tale of a game says what was played, whatever level it ended at, and is a page that loads and runs nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from gpubond.disputes import levels
from gpubond.disputes.levels import Level, Side
from gpubond.disputes.moves import Judge, JudgeRun, PickOperation
from gpubond.disputes.position import Reduction, Verdict
from gpubond.disputes.tale import Cost, Gain, Names, Tale, tell, work_of
from gpubond.disputes.tale_page import page
from gpubond.disputes.tale_rows import is_shown
from gpubond.exact.program import Opcode
from tests.disputes.liar import Changes, FalseAccuser, Liar, Lie, Tampered
from tests.disputes.play import Game, Honest
from tests.disputes.tasks import every_level_task, single_task, summing_task
from tests.disputes.test_soundness import told

NAMES = Names("0x1f2e", "Provider", "Watcher", "a run")
VOID = {"meta", "br", "path", "rect"}


class Checked(HTMLParser):
    """Fails at a tag that is not closed, or closed twice. Keeps attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def played(honest: Honest, lie: Lie) -> Game:
    """The game about a lie, with the first of some bits that is not lost in what follows."""
    wrong = told(honest, lie)
    assert wrong is not None, "no bit of this lie changes the run"
    execution, root = wrong
    game = honest.against(Liar(execution), root)
    assert game.convicted
    return game


def tale_of(game: Game) -> Tale:
    judged = game.ending == "judged"
    last = game.moves[-1] if judged else None
    return tell(NAMES, game.positions, last, Verdict(game.convicted), timed_out=not judged)


LIES = {
    "operation": Lie(step=3, op=17, element=2),
    "term": Lie(step=3, op=12, element=0, term=700),
    "join": Lie(step=3, op=12, element=0, join=2),
    "many leaves": Lie(step=3, op=10, element=1000),
    "state": Lie(step=3, tensor=0, element=5),
    "first of an interval": Lie(step=4, op=17, element=66),
}


@pytest.fixture(scope="module")
def honest() -> Honest:
    return Honest.of(every_level_task())


@pytest.mark.parametrize("name", LIES)
def test_each_lie_is_told_to_the_level_where_it_ended(honest: Honest, name: str) -> None:
    check_told(played(honest, LIES[name]), "CONVICTED")


@pytest.mark.parametrize("name", LIES)
def test_each_false_accusation_is_told(honest: Honest, name: str) -> None:
    wrong = told(honest, LIES[name])
    assert wrong is not None
    game = honest.accused_by(FalseAccuser(wrong[0]))
    assert (game.convicted, game.ending) == (False, "judged")
    check_told(game, "ACQUITTED")
    judgement = tale_of(game).judgement
    assert judgement is not None and judgement.claimed == judgement.right
    assert judgement.claimed_hash == judgement.right_hash


def check_told(game: Game, word: str) -> None:
    """One row for each time that something lay there to be picked, with what was picked, and the values of both."""
    tale = tale_of(game)
    assert [chapter.level.value for chapter in tale.chapters] == game.levels
    rows = [row for chapter in tale.chapters for row in chapter.rows]
    assert len(rows) == sum(is_shown(position) for position in game.positions)
    assert {row.by for row in rows} == set(Side)
    for row in rows:
        assert row.picked is None or (0 <= row.picked < row.count and row.shown != row.own)
    text = page(tale)
    checked = Checked(text)
    assert word in checked.text
    ids = [attributes["id"] for tag, attributes in checked.tags if tag == "section" and "id" in attributes]
    assert ids == [*game.levels, "judge"]
    assert all(f'title="{value}"' in text for row in rows for value in (row.shown, row.own) if value)
    # Of what both sides have said of one thing both are told: a checkpoint, an output, nodes of it, a number.
    said = {chapter.level for chapter in tale.chapters if any(row.own for row in chapter.rows)}
    assert said == {Level.RUN, Level.STEP, Level.OUTPUT, Level.LEAF} & {chapter.level for chapter in tale.chapters} - (
        {Level.STEP} if Level.STATE.value in game.levels else set()
    )


def test_both_values_and_the_place_are_told(honest: Honest) -> None:
    game = played(honest, LIES["term"])
    tale = tale_of(game)
    last = game.moves[-1]
    doubt = game.positions[-1].doubt
    assert isinstance(last, JudgeRun) and isinstance(doubt, Reduction) and tale.judgement is not None
    assert tale.judgement.claimed == doubt.values[last.run]
    assert tale.judgement.claimed ^ (tale.judgement.right or 0)
    assert tale.judgement.computed == levels.RUN_TERMS
    text = page(tale)
    assert f"0x{tale.judgement.claimed:08x}" in text and f"0x{tale.judgement.right:08x}" in text
    found = {chapter.level: chapter.found for chapter in tale.chapters}
    assert "number 4" in found[Level.INTERVAL]
    assert "operation 13, SUM" in found[Level.STEP]
    # Of three blocks all is shown at once: 32 runs and a total each but for the last, which has 26 terms.
    [blocks] = next(chapter.rows for chapter in tale.chapters if chapter.level is Level.BLOCK)
    assert blocks.count == 33 + 33 + 3 and blocks.picked == 33 + (700 - 512) // 16
    assert blocks.shown == f"0x{tale.judgement.claimed:08x}"


def test_commitments_are_told_where_the_state_was_put_together_wrongly(honest: Honest) -> None:
    tale = tale_of(played(honest, LIES["state"]))
    assert tale.judgement is not None and tale.judgement.claimed is None
    assert tale.judgement.claimed_hash in page(tale) and tale.judgement.right_hash in page(tale)


def test_a_clock_that_ran_out_is_told(honest: Honest) -> None:
    game = played(honest, LIES["operation"])
    cut = game.positions[: len(game.positions) // 2]
    for verdict, who in ((Verdict(True), "Provider"), (Verdict(False), "Watcher")):
        tale = tell(NAMES, cut, None, verdict, timed_out=True)
        assert tale.judgement is None and who in tale.ending
        assert ("CONVICTED" in Checked(page(tale)).text) is verdict.convicted


def test_an_end_that_cannot_be_seen_is_told_as_far_as_it_can_be(honest: Honest) -> None:
    game = played(honest, LIES["term"])
    tale = tell(NAMES, game.positions, None, Verdict(True))
    assert tale.judgement is None and "did not answer" not in tale.ending
    assert "CONVICTED" in Checked(page(tale)).text


def test_an_acquittal_is_told(honest: Honest) -> None:
    game = played(honest, LIES["term"])
    tale = tell(NAMES, game.positions, game.moves[-1], Verdict(False))
    assert "ACQUITTED" in Checked(page(tale)).text
    assert "challenge is lost" in page(tale)


def test_a_result_without_numbers_is_told(honest: Honest) -> None:
    """The game ends when it is picked: whoever has another fingerprint of nothing has lost."""
    empty = next(at for at, op in enumerate(honest.task.program.ops) if 0 in op.shape)
    changes = Changes(
        checkpoints=lambda hashes: [bytes(32), *hashes[1:]],
        outputs=lambda step, hashes: [bytes(32) if at == empty else one for at, one in enumerate(hashes)],
    )
    game = honest.accused_by(FalseAccuser(Tampered(honest.prepared, honest.task, changes)))
    assert (game.convicted, game.ending) == (False, "judged") and isinstance(game.moves[-1], PickOperation)
    tale = tale_of(game)
    assert tale.judgement is not None and "no numbers" in tale.judgement.text
    assert tale.chapters[-1].rows[-1].picked is not None
    assert "ACQUITTED" in Checked(page(tale)).text


def test_a_run_of_one_step_has_the_levels_that_there_are() -> None:
    honest = Honest.of(single_task())
    tale = tale_of(played(honest, Lie(step=0, op=0)))
    assert [chapter.level for chapter in tale.chapters] == [Level.STEP, Level.OUTPUT, Level.LEAF]
    Checked(page(tale))


@pytest.mark.parametrize("code", [Opcode.SUM, Opcode.MATMUL_NT])
def test_segments_of_a_long_sum_are_told(code: Opcode) -> None:
    honest = Honest.of(summing_task(140_000, code))
    op = next(at for at, op in enumerate(honest.task.program.ops) if op.code is code)
    tale = tale_of(played(honest, Lie(step=0, op=op, term=100_000)))
    totals = next(chapter for chapter in tale.chapters if chapter.level is Level.TOTALS)
    assert len(totals.rows) == 2
    Checked(page(tale))


def test_the_page_loads_and_runs_nothing_and_escapes_what_others_wrote(honest: Honest) -> None:
    game = played(honest, LIES["term"])
    nasty = '"><script>alert(1)</script><img src=x onerror=y>&amp;'
    last = game.moves[-1]
    assert isinstance(last, Judge)
    tale = tell(
        Names(nasty, nasty, nasty, nasty),
        game.positions,
        last,
        Verdict(True),
        costs=[Cost(Side.ASSERTER, "run", nasty, 5, nasty), Cost(Side.CHALLENGER, "judge", nasty, 7)],
        gains=[Gain(nasty, nasty, nasty)],
    )
    text = page(tale)
    checked = Checked(text)
    assert not {tag for tag, _ in checked.tags} & {"script", "img", "link", "iframe", "object", "base", "form", "a"}
    assert not [name for _, attributes in checked.tags for name in attributes if name.startswith("on")]
    assert not re.search(r"https?:|url\(|@import|javascript:", text)
    assert nasty in "".join(checked.text)
    assert "12" in "".join(checked.text)  # the running total


def test_the_work_of_a_run_is_counted() -> None:
    task = single_task(steps=3)
    assert work_of(task.program.ops, 3) == 3
    summed = summing_task(1_000)
    assert work_of(summed.program.ops, 2) == 2 * 1_000
