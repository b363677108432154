# SPDX-License-Identifier: Apache-2.0
"""The tale of a game says what was played, whatever level it ended at, and is a page that loads and runs nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from gpubond.disputes import levels
from gpubond.disputes.levels import Level
from gpubond.disputes.moves import Judge, JudgeRun
from gpubond.disputes.position import Block, Side, Verdict
from gpubond.disputes.tale import Cost, Gain, Names, Tale, tell, work_of
from gpubond.disputes.tale_page import page
from gpubond.exact.program import Opcode
from tests.disputes.liar import Liar, Lie
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
    game = played(honest, LIES[name])
    tale = tale_of(game)
    assert [chapter.level.value for chapter in tale.chapters] == game.levels
    # One row for each time that the challenger moved, and in each what it picked.
    moved = sum(position.turn is Side.CHALLENGER for position in game.positions)
    assert sum(len(chapter.rows) for chapter in tale.chapters) == moved
    for chapter in tale.chapters:
        for row in chapter.rows:
            assert row.picked is None or 0 <= row.picked < row.count
    checked = Checked(page(tale))
    assert "CONVICTED" in checked.text
    ids = [attributes["id"] for tag, attributes in checked.tags if tag == "section" and "id" in attributes]
    assert ids == [*game.levels, "judge"]


def test_both_values_and_the_place_are_told(honest: Honest) -> None:
    game = played(honest, LIES["term"])
    tale = tale_of(game)
    last = game.moves[-1]
    doubt = game.positions[-1].doubt
    assert isinstance(last, JudgeRun) and isinstance(doubt, Block) and tale.judgement is not None
    assert tale.judgement.claimed == (*doubt.accumulators, doubt.total)[last.run]
    assert tale.judgement.claimed ^ (tale.judgement.right or 0)
    assert tale.judgement.computed == levels.RUN_TERMS
    text = page(tale)
    assert f"0x{tale.judgement.claimed:08x}" in text and f"0x{tale.judgement.right:08x}" in text
    found = {chapter.level: chapter.found for chapter in tale.chapters}
    assert "number 4" in found[Level.INTERVAL]
    assert "operation 13, SUM" in found[Level.STEP]
    assert "block 2" in found[Level.TOTALS]


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


def test_a_run_of_one_step_has_the_levels_that_there_are() -> None:
    honest = Honest.of(single_task())
    tale = tale_of(played(honest, Lie(step=0, op=0)))
    assert [chapter.level for chapter in tale.chapters] == [Level.STEP, Level.LEAF]
    Checked(page(tale))


@pytest.mark.parametrize("code", [Opcode.SUM, Opcode.MATMUL_NT])
def test_segments_of_a_long_sum_are_told(code: Opcode) -> None:
    honest = Honest.of(summing_task(40_000, code))
    op = next(at for at, op in enumerate(honest.task.program.ops) if op.code is code)
    tale = tale_of(played(honest, Lie(step=0, op=op, term=39_000)))
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
