# SPDX-License-Identifier: Apache-2.0
"""The C engine gives the NumPy engine's bits, with every instruction set that is there and 1, 2 and 3 threads."""

from __future__ import annotations

import ctypes
import itertools
import os
import platform
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpubond.exact import c_library, c_plan, c_sources
from gpubond.exact.arena import Lifetime, arrange
from gpubond.exact.c_engine import CEngine
from gpubond.exact.live import live_bytes
from gpubond.exact.numpy_engine import NumpyEngine
from gpubond.exact.program import ELEMENTWISE, Opcode
from gpubond.exact.refusal import Refused
from tests.exact.c_cases import Builder, arithmetic, ordinary, product, products
from tests.exact.c_engines import ENGINES, SETS, by_engine, by_set
from tests.exact.programs import Case, differences, every_operation, programs, same_bits
from tests.exact.values import tensor

ROOT = Path(__file__).resolve().parents[2]
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
NUMPY = NumpyEngine()


@by_engine
def test_every_operation_in_one_program(engine: CEngine) -> None:
    assert not differences(engine, NUMPY, every_operation(), steps=4)


@by_engine
@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(case=programs(most_ops=12))
def test_random_programs(engine: CEngine, case: Case) -> None:
    assert not differences(engine, NUMPY, case, steps=2)


@pytest.mark.extended
@pytest.mark.timeout(3600)
@by_engine
@settings(max_examples=3_000, deadline=None, suppress_health_check=SLOW)
@given(case=programs(most_ops=24))
def test_thousands_of_random_programs(engine: CEngine, case: Case) -> None:
    assert not differences(engine, NUMPY, case, steps=2)


@by_set
@pytest.mark.parametrize("turns", [0, 1])
@settings(max_examples=40, deadline=None, suppress_health_check=[*SLOW, HealthCheck.function_scoped_fixture])
@given(case=programs(most_ops=16))
def test_views_that_are_all_carried_out_in_the_end(
    engine: CEngine, turns: int, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c_plan, "MOST_TURNS", turns)
    assert not differences(engine, NUMPY, case, steps=2)


# ---- Products ----


@by_engine
@pytest.mark.parametrize("k", [0, 1, 2, 15, 16, 17, 511, 512, 513, 1025])
def test_products_about_the_ends_of_blocks(engine: CEngine, k: int) -> None:
    for m, n in ((1, 1), (2, 33), (3, 31), (13, 33), (25, 16), (49, 7)):
        assert not differences(engine, NUMPY, product((), m, n, k, seed=m + n + k)), (m, n, k)


@by_set
def test_products_of_every_ragged_edge(engine: CEngine) -> None:
    for m, n in itertools.product(range(1, 27), (1, 7, 8, 9, 16, 17, 32, 47)):
        assert not differences(engine, NUMPY, product((), m, n, 5, seed=m * n)), (m, n)


@by_set
@pytest.mark.parametrize(("m", "n", "k"), [(1025, 33, 3), (60, 1030, 514), (300, 560, 520), (2, 700, 1030), (50, 9, 4)])
def test_products_larger_than_what_is_packed_at_a_time(engine: CEngine, m: int, n: int, k: int) -> None:
    assert not differences(engine, NUMPY, product((), m, n, k, seed=1))


@by_engine
@pytest.mark.parametrize("batch", [(2,), (3, 2), (7,), (0,), (2, 0)])
def test_batches(engine: CEngine, batch: tuple[int, ...]) -> None:
    assert not differences(engine, NUMPY, product(batch, 5, 19, 21, seed=3))
    assert not differences(engine, NUMPY, product(batch, 1, 19, 530, seed=4))


@by_engine
def test_products_of_transposed_views(engine: CEngine) -> None:
    for m, n, k in ((14, 33, 20), (37, 50, 513), (5, 10, 70), (1, 40, 33)):
        assert not differences(engine, NUMPY, products(m, n, k))


@by_set
@pytest.mark.parametrize("scale", [-149, -140, -75, -64, 0, 64])
def test_products_of_tiny_and_of_huge_numbers(engine: CEngine, scale: int) -> None:
    case = product((), 14, 40, 530, seed=5)
    random = np.random.default_rng(scale + 200)
    inputs = [
        np.ldexp(random.integers(-9, 10, array.shape).astype(np.float64), scale).astype(np.float32)
        for array in case.state[:2]
    ]
    assert not differences(engine, NUMPY, Case(case.program, (*inputs, *case.state[2:]), (), 0))


# ---- Reductions ----


@by_engine
@pytest.mark.parametrize("terms", [0, 1, 16, 63, 64, 65, 511, 512, 513, 1024, 1100, 9000])
def test_reductions_of_rows_and_of_columns(engine: CEngine, terms: int) -> None:
    for rows in (1, 2, 17) if terms > 600 else (1, 3, 16, 33, 70):
        build = Builder()
        x = build.state(tensor(rows + terms, (rows, terms)))
        y = build.state(np.random.default_rng(terms).standard_normal((terms, rows)).astype(np.float32))
        for number in (x, build.transposed(y)):
            for code in (Opcode.SUM, Opcode.ROWMAX):
                build.keep(build.op(code, (number,), (rows,)))
        assert not differences(engine, NUMPY, build.case()), (rows, terms)


@by_set
def test_the_last_zero_is_the_maximum(engine: CEngine) -> None:
    random = np.random.default_rng(8)
    choices = np.array([0.0, -0.0, -1.0, -np.inf], dtype=np.float32)
    for terms in (1, 2, 63, 64, 65, 200, 1030):
        build = Builder()
        rows = build.state(random.choice(choices, (40, terms)))
        columns = build.state(random.choice(choices, (terms, 40)))
        build.keep(build.op(Opcode.ROWMAX, (rows,), (40,)))
        build.keep(build.op(Opcode.ROWMAX, (build.transposed(columns),), (40,)))
        assert not differences(engine, NUMPY, build.case())


# ---- Element by element, copies ----


@by_engine
@pytest.mark.parametrize("size", [1, 15, 17, 1023, 1024, 1025, 20_000])
def test_arithmetic_of_special_values(engine: CEngine, size: int) -> None:
    assert not differences(engine, NUMPY, arithmetic([tensor(size + at, (size,)) for at in range(3)]))


@pytest.mark.extended
@pytest.mark.timeout(3600)
@by_set
def test_two_million_operands_of_each_operation(engine: CEngine) -> None:
    random = np.random.default_rng(20)
    for _ in range(20):
        bits = [random.integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32) for _ in range(3)]
        assert not differences(engine, NUMPY, arithmetic(bits))
    # Exponents near one another, and of products near the third: so that sums cancel.
    for _ in range(20):
        near = [np.ldexp(random.integers(-(2**24), 2**24, 100_000), random.integers(-30, 6)) for _ in range(3)]
        assert not differences(engine, NUMPY, arithmetic([each.astype(np.float32) for each in near]))


@by_engine
def test_uniform_from_any_element_on(engine: CEngine) -> None:
    for size in (1, 3, 255, 256, 259, 5_000):
        build = Builder()
        noise = build.op(Opcode.UNIFORM, (), (size,), 0xFFFFFFFF, 3)
        build.keep(noise)
        build.keep(build.op(Opcode.GT, (noise, build.op(Opcode.CONST, (), (size,), 0x3F000000)), (size,)))
        assert not differences(engine, NUMPY, build.case(step=2**40 + 7), steps=2)


@by_engine
def test_views_concatenations_and_gathers_of_all_kinds(engine: CEngine) -> None:
    build = Builder()
    x = build.state(tensor(1, (3, 5, 37, 21)))
    row = build.state(tensor(2, (21,)))
    index = build.state(np.array([0, 2, -0.0, 36, 37, -1, 0.5, np.nan, np.inf, 3e9, 1e-40], dtype=np.float32))
    strides = (5 * 37 * 21, 37 * 21, 21, 1)
    for order in itertools.permutations(range(4)):
        shape = tuple((3, 5, 37, 21)[at] for at in order)
        view = build.op(Opcode.VIEW, (x,), shape, 0, *(strides[at] for at in order))
        other = build.op(Opcode.VIEW, (row,), shape, 0, *(1 if at == 3 else 0 for at in order))
        build.keep(build.op(Opcode.ADD, (view, other), shape))
        build.keep(view)
        for axis in (0, 3):
            both = tuple(dim * 2 if at == axis else dim for at, dim in enumerate(shape))
            build.keep(build.op(Opcode.CONCAT, (view, other), both, axis))
    table = build.op(Opcode.VIEW, (x,), (37, 21), 0, 21, 1, 0, 0)
    build.keep(build.op(Opcode.GATHER, (table, index), (11, 21)))
    build.keep(build.op(Opcode.GATHER, (build.transposed(table), index), (11, 37)))
    assert not differences(engine, NUMPY, build.case())


@by_set
@pytest.mark.parametrize("kept", [False, True])
def test_a_view_that_only_some_can_look_through(engine: CEngine, kept: bool) -> None:
    build = Builder()
    x = build.state(tensor(4, (4,)))
    twice = build.op(Opcode.VIEW, (x,), (5, 2), 0, 0, 1)
    build.keep(build.op(Opcode.VIEW, (twice,), (4,), 0, 0))
    # Across the rows, which no strides in x are.
    across = build.op(Opcode.VIEW, (twice,), (2, 3), 1, 2, 1)
    if kept:
        build.keep(across)
    assert not differences(engine, NUMPY, build.case())


# ---- Memory ----


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(0, 9)), max_size=40).map(
        lambda found: [Lifetime(begin, begin + more, size) for begin, more, size in found]
    )
)
def test_memory_is_never_given_twice(lives: list[Lifetime]) -> None:
    offsets = arrange(lives)
    for (low, one), (high, other) in itertools.combinations(zip(offsets, lives, strict=True), 2):
        apart = one.end < other.begin or other.end < one.begin
        assert apart or low + one.size <= high or high + other.size <= low


def test_a_long_chain_takes_no_more_memory_than_what_is_alive() -> None:
    build = Builder()
    x = build.state(tensor(1, (64, 64)))
    for _ in range(40):
        x = build.op(Opcode.MATMUL_NT, (x, 0), (64, 64))
        x = build.op(Opcode.EXP, (x,), (64, 64))
    build.keep(x)
    case = build.case()
    prepared = CEngine(1).prepare(case.program)
    assert prepared.memory_bytes <= 1.2 * live_bytes(case.program) + 4 * prepared.work_floats
    assert live_bytes(case.program) == 4 * 2 * 64 * 64


def test_what_cannot_be_had_is_refused_before_anything_runs() -> None:
    build = Builder()
    x = build.state(tensor(1, (1,)))
    huge = (2**31 - 1,)
    views = [build.op(Opcode.EXP, (build.op(Opcode.VIEW, (x,), huge, 0, 0),), huge) for _ in range(3)]
    total = [build.op(Opcode.SUM, (view,), ()) for view in views]
    build.keep(*total)
    program = build.case().program
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32));"
        "from gpubond.exact.c_engine import CEngine; from gpubond.exact.program import Program;"
        "program = Program.parse(sys.stdin.buffer.read())\n"
        "try: CEngine(1).prepare(program)\n"
        "except MemoryError: sys.exit(7)"
    )
    done = subprocess.run([sys.executable, "-c", limited], input=program.encode(), cwd=ROOT, check=False)
    assert done.returncode == 7


# ---- Processes, threads, floating-point state ----


def test_several_threads_of_python_at_once() -> None:
    case = every_operation()
    wanted = NUMPY.prepare(case.program).step(case.state, case.data, 1)
    one = CEngine(2).prepare(case.program)
    wrong: list[object] = []

    def work() -> None:
        for prepared in (one, CEngine(3).prepare(case.program), CEngine(1).prepare(case.program)) * 20:
            found = prepared.step(case.state, case.data, 1)
            wrong.extend(pair for pair in zip(found, wanted, strict=True) if not same_bits(*pair))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_process_that_was_forked_after_first_use() -> None:
    case = product((), 200, 200, 100, seed=1)
    engine = CEngine(3)
    prepared = engine.prepare(case.program)
    wanted = prepared.step(case.state, (), 0)
    for _ in range(3):
        child = os.fork()
        if child == 0:
            ok = all(map(same_bits, prepared.step(case.state, (), 0), wanted))
            grandchild = os.fork()
            if grandchild == 0:
                os._exit(0 if all(map(same_bits, engine.prepare(case.program).step(case.state, (), 0), wanted)) else 1)
            os._exit(0 if ok and os.waitpid(grandchild, 0)[1] == 0 else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert all(map(same_bits, prepared.step(case.state, (), 0), wanted))


def test_parent_and_child_of_a_fork_at_once() -> None:
    """Each has an arena of its own, though the plan and its addresses are the same."""
    build = Builder()
    x = build.state(ordinary(1, (90, 90)))
    for _ in range(6):
        x = build.op(Opcode.MATMUL_NT, (x, 0), (90, 90))
    build.keep(x)
    case = build.case()
    prepared = CEngine(2).prepare(case.program)
    wanted = prepared.step(case.state, (), 0)
    other = (case.state[0] * np.float32(0.5), case.state[1])
    wanted_other = prepared.step(other, (), 0)
    child = os.fork()
    if child == 0:
        same = [all(map(same_bits, prepared.step(other, (), 0), wanted_other)) for _ in range(300)]
        os._exit(0 if all(same) else 1)
    assert all(all(map(same_bits, prepared.step(case.state, (), 0), wanted)) for _ in range(300))
    assert os.waitpid(child, 0)[1] == 0


def test_a_child_that_was_forked_in_the_middle_of_a_step() -> None:
    case = every_operation()
    prepared = CEngine(2).prepare(case.program)
    wanted = prepared.step(case.state, case.data, 1)
    ended: list[int] = []

    def fork(at: int, _: object) -> None:
        if at != 3:
            return
        child = os.fork()
        if child == 0:
            found = prepared.step(case.state, case.data, 1, lambda *_: None)
            os._exit(0 if all(map(same_bits, found, wanted)) else 1)
        ended.append(os.waitpid(child, 0)[1])

    assert all(map(same_bits, prepared.step(case.state, case.data, 1, fork), wanted))
    assert ended == [0]


def test_a_step_within_a_traced_step() -> None:
    case = every_operation()
    prepared = CEngine(2).prepare(case.program)
    wanted = prepared.step(case.state, case.data, 1)
    found: list[bool] = []

    def again(_: int, __: object) -> None:
        found.append(all(map(same_bits, prepared.step(case.state, case.data, 1), wanted)))

    assert all(map(same_bits, prepared.step(case.state, case.data, 1, again), wanted))
    assert found == [True] * len(case.program.ops)


def test_changed_rounding_changes_nothing_and_is_left_as_it_was() -> None:
    libm = ctypes.CDLL("libm.so.6")
    case = arithmetic([tensor(at, (30_000,)) for at in range(3)])
    wanted = NUMPY.prepare(case.program).step(case.state, (), 0)
    for engine in ENGINES:
        prepared = engine.prepare(case.program)
        for mode in (0x400, 0x800, 0xC00) if os.uname().machine == "x86_64" else (0x400000, 0x800000, 0xC00000):
            libm.fesetround(mode)
            try:
                found = prepared.step(case.state, (), 0)
                assert libm.fegetround() == mode
            finally:
                libm.fesetround(0)
            assert all(map(same_bits, found, wanted))


# Sets flush to zero for the thread that loads it, as the start of what was built with -Ofast does. The rest is plain C.
FAST_SOURCE = """
#if defined(__x86_64__)
#include <xmmintrin.h>
__attribute__((constructor)) static void flush(void) { _mm_setcsr(_mm_getcsr() | 0x8040); }
#elif defined(__aarch64__)
__attribute__((constructor)) static void flush(void) {
  unsigned long held;
  __asm__ __volatile__("mrs %0, fpcr" : "=r"(held));
  __asm__ __volatile__("msr fpcr, %0" : : "r"(held | 1ul << 24));
}
#endif
float product(volatile float x, volatile float y) { return x * y; }
"""
# A subnormal result, and a subnormal operand, are zero in plain C before and after our steps, and not in them.
FAST = """
import ctypes, sys
import numpy as np
def plain(*bits):
    return fast.product(*(ctypes.c_float.from_buffer(ctypes.c_uint32(each)) for each in bits))
tiny, half, huge = 0x1FC00001, 0x1F800000, 0x7F000000
fast = ctypes.CDLL(sys.argv[1])
fast.product.restype, fast.product.argtypes = ctypes.c_float, [ctypes.c_float] * 2
def flushing():
    return plain(tiny, half) == 0.0 and plain(1, huge) == 0.0
assert flushing(), "nothing is flushed: the test tries nothing"
from gpubond.exact.c_engine import CEngine
from tests.exact.c_cases import product
from tests.exact.programs import Case
case = product((), 40, 70, 600, seed=1)
small = [np.full(array.shape, 2.0**-73, np.float32) for array in case.state[:2]]
for threads in (1, 2, 3):
    for name in CEngine(1).library.sets():
        found = CEngine(threads, name).prepare(case.program).step([*small, case.state[2]], (), 0)[2]
        assert (found.view(np.uint32) == 600 * 8).all(), (threads, name, found)
        assert flushing(), "the state was not put back"
print("right and put back")
"""


@pytest.mark.skipif(c_library.compiler() is None, reason="needs a C compiler")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="sets the control word of these")
def test_a_process_into_which_fast_code_was_loaded(tmp_path: Path) -> None:
    source = tmp_path / "fast.c"
    source.write_text(FAST_SOURCE)
    library = tmp_path / "fast.so"
    command = c_library.compiler() or []
    subprocess.run([*command, "-O1", "-fPIC", "-shared", str(source), "-o", str(library)], check=True)
    done = subprocess.run(
        [sys.executable, "-c", FAST, str(library)], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "right and put back"


# ---- The library ----


SANITIZED = """
import numpy as np
from gpubond.exact.c_engine import CEngine
from gpubond.exact.commitments import content
from gpubond.exact.merkle import elements_root
from tests.exact.c_cases import arithmetic, product, products
from tests.exact.programs import every_operation
from tests.exact.values import tensor
cases = [every_operation(), arithmetic([tensor(at, (3000,)) for at in range(3)]), products(14, 33, 20)]
cases += [product((), m, n, k, seed=1) for m, n, k in ((1, 17, 530), (13, 33, 513), (49, 7, 3), (130, 70, 40))]
cases += [product((3, 2), 5, 19, 21, seed=1)]
for threads in (1, 3):
    for name in CEngine(1).library.sets():
        for case in cases:
            prepared = CEngine(threads, name).prepare(case.program)
            prepared.step(case.state, case.data, case.step)
            prepared.step(case.state, case.data, case.step, lambda *_: None)
            prepared.traced(case.state, case.data, case.step)
for size in (0, 1, 63, 64, 65, 511, 512, 513, 2000, 70_000):
    elements_root(content(tensor(size, (size,))))
    elements_root(content(np.zeros(size, np.float32)))
print("clean")
"""


def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    runtime = _sanitizer()
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    library = c_library.build(tmp_path / "sanitized.so", flags)
    environment = os.environ | {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
        "GPUBOND_EXACT_LIBRARY": str(library),
        # Its own memory would hide what goes beyond small arrays.
        "PYTHONMALLOC": "malloc",
    }
    done = subprocess.run(
        [sys.executable, "-c", SANITIZED], cwd=ROOT, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.strip() == "clean", done.stderr[-3000:]


SAME_BITS = """
from gpubond.exact.c_engine import CEngine
from gpubond.exact.numpy_engine import NumpyEngine
from tests.exact.c_cases import arithmetic, product, products
from tests.exact.programs import differences, every_operation
from tests.exact.values import tensor
cases = [every_operation(), arithmetic([tensor(at, (3000,)) for at in range(3)]), products(14, 33, 20)]
cases += [product((), 13, 33, 513, seed=1)]
for name in CEngine(1).library.sets():
    for case in cases:
        found = differences(CEngine(2, name), NumpyEngine(), case)
        assert not found, (name, found)
"""


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("level", ["-O0", "-O3"])
def test_whatever_compiles_it(compiler: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    monkeypatch.setenv("CC", compiler)
    library = c_library.build(tmp_path / "exact.so", (level,))
    environment = os.environ | {"GPUBOND_EXACT_LIBRARY": str(library)}
    subprocess.run([sys.executable, "-c", SAME_BITS], cwd=ROOT, env=environment, check=True)


def test_the_environment_chooses_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETS:
        monkeypatch.setenv("GPUBOND_EXACT_SET", name)
        assert CEngine(2).name == f"c ({name}, 2 threads)"


def _sanitizer() -> str:
    """The library that has to be loaded first."""
    command = c_library.compiler()
    if command is None:
        pytest.skip("needs a C compiler")
    asked = subprocess.run([*command, "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    path = Path(asked.stdout.strip())
    if not path.is_absolute() or not path.exists():
        pytest.skip(f"{command[0]} has no libasan")
    return str(path)


def test_a_library_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if c_library.compiler() is None:
        pytest.skip("needs a C compiler")
    path = c_library.build(tmp_path / "new" / "exact.so", ("-O0",))
    assert c_library.Library(path).fingerprint == c_sources.fingerprint()
    assert [entry.name for entry in path.parent.iterdir()] == ["exact.so"]
    monkeypatch.setattr(c_library, "compiler", lambda: None)
    assert c_library.build(path) == path


def test_without_a_compiler_it_is_said_once_what_that_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_library, "compiler", lambda: None)
    monkeypatch.setattr(c_library, "_installed", lambda: iter(()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("GPUBOND_EXACT_LIBRARY", raising=False)
    c_library.load.cache_clear()
    c_library._warn.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="thousand times slower") as told:
            assert not c_library.available() and not c_library.available()
        assert len(told) == 1
        with pytest.raises(c_library.Unavailable, match="no C compiler"):
            CEngine()
    finally:
        c_library.load.cache_clear()


def test_what_is_no_library_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "exact.so"
    path.write_bytes(b"\x7fELF and no more")
    with pytest.raises(c_library.Unavailable, match="cannot be loaded"):
        c_library.Library(path)


def test_wrong_arrays_and_sets_are_refused() -> None:
    case = every_operation()
    prepared = CEngine(1).prepare(case.program)
    with pytest.raises(Refused, match="state"):
        prepared.step(case.state[:1], case.data, 0)
    with pytest.raises(Refused, match=r"state\[0\]"):
        prepared.step([np.zeros((3, 2), np.float32), *case.state[1:]], case.data, 0)
    with pytest.raises(Refused, match=r"data\[1\]"):
        prepared.step(case.state, [case.data[0], case.data[1].astype(np.float64)], 0)  # type: ignore[list-item]
    with pytest.raises(Refused, match="instructions"):
        CEngine(1, "mmx")


def test_arrays_that_are_not_contiguous_are_read_right() -> None:
    case = every_operation()
    engine = CEngine(1)
    turned = [array.T.copy().T for array in case.state]
    found = engine.prepare(case.program).step(turned, case.data, 1)
    wanted = engine.prepare(case.program).step(case.state, case.data, 1)
    assert all(map(same_bits, found, wanted))


def test_all_operations_element_by_element_are_tried() -> None:
    assert {op.code for op in arithmetic([tensor(1, (3,))] * 3).program.ops} == ELEMENTWISE
