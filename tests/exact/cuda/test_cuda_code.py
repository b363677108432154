# SPDX-License-Identifier: Apache-2.0
"""What the compilers make of the kernels, without a GPU: only arithmetic that rounds once, to the nearest."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from gpubond.exact.cuda.build import OPTIONS, Compiled, compile_kernels
from gpubond.exact.cuda.launches import LARGE, MIDDLE, SKINNY
from gpubond.exact.program import ELEMENTWISE

from .conftest import ARCHITECTURES, compiled
from .machine_code import Instruction, disassembled, float_ptx, ptx_instructions, sass_instructions, tool

# Comparisons and choices copy bits or say yes and no; conversions are of whole numbers that fit.
PTX_ALLOWED = re.compile(
    r"(add|sub|mul|fma|div|sqrt)\.rn\.f32|setp\.(eq|ne|lt|le|gt|ge|ltu|leu|gtu|geu|neu|equ|num|nan)(\.\w+)?\.f32"
    r"|(selp|slct)\.f32|cvt\.rn\.f32\.[su]32|cvt\.rzi\.s32\.f32|set\.gt\.f32\.f32"
)
SASS_ALLOWED = re.compile(
    r"FADD|FMUL|FFMA|FSEL|FSETP?(\.BF)?\.[A-Z]+\.(AND|OR|XOR)|I2FP?\.F32\.[SU]32|I2F(\.[SU]32)?|F2I\.TRUNC\.NTZ"
)
# Division of whole numbers, by an approximate reciprocal of floating point and corrections.
SASS_WHOLE_DIVISION = re.compile(r"I2F\.U(32|64)\.RP|F2I(\.FTZ)?\.U(32|64)\.TRUNC(\.NTZ)?")
# div.rn and sqrt.rn are an approximation and corrections, and a subroutine for subnormals and what is not finite.
SASS_OF_CORRECTIONS = re.compile(r"MUFU\.(RCP|RSQ)|FCHK|FFMA\.R[ZMP]|(FADD|FMUL|FFMA)\.FTZ|FSETP\.[A-Z]+\.FTZ\.AND")
SASS_FLOAT = re.compile(r"U?F(?!LO|ENCE)|MUFU|H[A-Z]|D(ADD|MUL|FMA|SETP|MNMX)|I2F|F2|[A-Z]*MMA|RED|ATOM")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def sass(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Instruction]]:
    cuobjdump = tool("cuobjdump")
    if cuobjdump is None or tool("nvdisasm") is None:
        pytest.skip("no disassembler: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm")
    directory = tmp_path_factory.mktemp("sass")
    return sass_instructions(disassembled(compiled(request.param).cubin, directory, cuobjdump))


def forbidden_ptx(ptx: str) -> list[str]:
    """Floating-point instructions that no kernel may have, and atomic ones."""
    found = []
    for kernel, instructions in ptx_instructions(ptx).items():
        computing = [name for name in float_ptx(instructions) if not PTX_ALLOWED.fullmatch(name)]
        # The sign bit turned may be written as a negation, which differs for NaN only, and those are made canonical.
        found += [f"{kernel}: {name}" for name in computing if (kernel, name) != ("op_neg", "neg.f32")]
        found += [f"{kernel}: {name}" for name in instructions if re.match(r"atom|red\.|mma|wmma|wgmma", name)]
        found += [f"{kernel}: {name}" for name in instructions if ".ftz" in name or ".approx" in name]
    return found


def arithmetic(ptx: str) -> dict[str, Counter[str]]:
    """By kernel, how often each rounding instruction stands there."""
    pattern = re.compile(r"(add|sub|mul|fma|div|sqrt)\.rn\.f32")
    return {
        kernel: Counter(name for name in instructions if pattern.fullmatch(name))
        for kernel, instructions in ptx_instructions(ptx).items()
    }


def test_every_operation_has_its_kernel(code: Compiled) -> None:
    names = set(ptx_instructions(code.ptx))
    assert {f"op_{operation.name.lower()}" for operation in ELEMENTWISE} < names
    assert {tile.kernel for tile in (LARGE, MIDDLE, SKINNY)} < names
    others = {"fill", "uniform", "view", "view_turned", "concat", "gather"}
    others |= {f"{part}_{name}" for part in ("reduce", "join") for name in ("sum", "maximum")}
    assert len(names) == len(ELEMENTWISE) + 3 + len(others) and others < names


def test_ptx_rounds_once_to_the_nearest_and_has_no_atomics(code: Compiled) -> None:
    assert f".target {code.architecture}" in code.ptx
    assert forbidden_ptx(code.ptx) == []


@pytest.mark.parametrize("option", ["--ftz=true", "--prec-div=false", "--prec-sqrt=false", "--use_fast_math"])
def test_code_made_with_another_arithmetic_would_be_found(option: str) -> None:
    made = compile_kernels("compute_90", ("--std=c++17", option)).ptx
    # The kernels ask for IEEE division and roots by name, so that no option makes those approximate.
    explicit = option in ("--prec-div=false", "--prec-sqrt=false")
    assert (forbidden_ptx(made) == []) == explicit
    assert (arithmetic(made) == arithmetic(compiled("sm_90").ptx)) == explicit


def test_each_kernel_computes_what_its_source_asks_for(code: Compiled) -> None:
    found = arithmetic(code.ptx)
    for name in ("add", "sub", "mul", "fma", "div", "sqrt"):
        assert found[f"op_{name}"] == {f"{name}.rn.f32": 1}
    # As many as docs/exact.md lists.
    assert found["op_exp"] == {"fma.rn.f32": 9, "mul.rn.f32": 3, "add.rn.f32": 1, "sub.rn.f32": 1}
    assert found["op_log"] == {"fma.rn.f32": 11, "mul.rn.f32": 4, "add.rn.f32": 1, "sub.rn.f32": 1}
    assert found["uniform"] == {"mul.rn.f32": 4}
    for name in ("reduce_sum", "join_sum"):
        assert set(found[name]) == {"add.rn.f32"}
    # Accumulators times depth of a tile; a join for each accumulator.
    for tile, elements, depth in ((LARGE, 64, 8), (MIDDLE, 32, 16), (SKINNY, 8, 32)):
        assert found[tile.kernel] == {"fma.rn.f32": elements * depth, "add.rn.f32": elements}
    copying = ("op_max", "op_gt", "op_select", "op_neg", "op_bf16", "reduce_maximum", "join_maximum")
    for name in (*copying, "fill", "view", "view_turned", "concat", "gather"):
        assert found[name] == {}


def test_nothing_depends_on_contraction_being_off(code: Compiled) -> None:
    """It is off, and every multiplication and addition is an intrinsic that is never contracted."""
    others = tuple(given for given in OPTIONS if not given.startswith("--fmad"))
    contracting = compile_kernels(code.architecture.replace("sm", "compute"), (*others, "--fmad=true"))
    assert contracting.cubin == b""
    assert arithmetic(contracting.ptx) == arithmetic(code.ptx)


def test_machine_code_is_the_same_each_time(code: Compiled) -> None:
    assert compile_kernels(code.architecture).cubin == code.cubin


def forbidden_sass(kernel: str, instructions: list[Instruction]) -> list[str]:
    """Instructions of floating point, and atomic ones, that the kernel may not have."""
    found = []
    corrections = kernel in ("op_div", "op_sqrt")
    for name, operands, _ in instructions:
        if not SASS_FLOAT.match(name):
            continue
        allowed = SASS_ALLOWED.fullmatch(name) or SASS_WHOLE_DIVISION.fullmatch(name)
        allowed = allowed or (corrections and SASS_OF_CORRECTIONS.fullmatch(name)) or name == "MUFU.RCP"
        # A constant is loaded so: 0 times 0 and the constant, in halves.
        allowed = allowed or (name in ("HFMA2.MMA", "HFMA2") and re.search(r"-RZ, RZ, ", operands))
        # The clamp in exp, of constants that are not zero.
        allowed = allowed or (kernel == "op_exp" and name == "FMNMX.NAN" and re.search(r", (-104|89), ", operands))
        if not allowed:
            found.append(f"{kernel}: {name} {operands}")
    return found


def test_machine_code_rounds_once_to_the_nearest(sass: dict[str, list[Instruction]]) -> None:
    assert set(sass) == set(ptx_instructions(compiled(ARCHITECTURES[0]).ptx))
    assert [line for kernel, instructions in sass.items() for line in forbidden_sass(kernel, instructions)] == []


def test_approximations_stand_in_divisions_and_roots_only(sass: dict[str, list[Instruction]]) -> None:
    """The PTX has div.rn and sqrt.rn there; elsewhere a reciprocal is of a division of whole numbers."""
    assert arithmetic(compiled(ARCHITECTURES[0]).ptx)["op_div"] == {"div.rn.f32": 1}
    for kernel, instructions in sass.items():
        names = Counter(item.name for item in instructions)
        approximate = {name for name in names if name.startswith("MUFU")}
        if kernel == "op_div":
            # Its MUFU.RSQ makes the NaN of 0/0, and has a NaN as its operand.
            assert approximate == {"MUFU.RCP", "MUFU.RSQ"}
            assert [item.operands for item in instructions if item.name == "MUFU.RSQ"][0].endswith("-QNAN")
        elif kernel == "op_sqrt":
            assert approximate == {"MUFU.RSQ"}
        else:
            assert approximate <= {"MUFU.RCP"}
            assert names["MUFU.RCP"] == names["I2F.U32.RP"] + names["I2F.U64.RP"]


def test_the_nan_that_is_chosen_is_the_canonical_one(sass: dict[str, list[Instruction]]) -> None:
    chosen = [item for kernel in sass.values() for item in kernel if item.name == "FSEL" and "QNAN" in item.operands]
    assert chosen and {item.encoding >> 32 for item in chosen} == {0x7FC00000}


def test_the_inner_loop_of_a_product_is_multiply_adds_and_keeps_its_sums_in_registers(
    sass: dict[str, list[Instruction]],
) -> None:
    for tile, least in ((LARGE, 512), (MIDDLE, 512), (SKINNY, 256)):
        names = [item.name for item in sass[tile.kernel]]
        first, last = names.index("FFMA"), len(names) - names[::-1].index("FFMA")
        loop = names[first:last]
        assert loop.count("FFMA") == least
        assert not [name for name in loop if name.startswith(("STL", "LDL"))]


def test_forbidden_machine_code_would_be_found(tmp_path: Path) -> None:
    cuobjdump = tool("cuobjdump")
    if cuobjdump is None or tool("nvdisasm") is None:
        pytest.skip("no disassembler: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm")
    made = compile_kernels("sm_90", ("--std=c++17", "--ftz=true")).cubin
    kernels = sass_instructions(disassembled(made, tmp_path, cuobjdump))
    assert any(".FTZ" in line for line in forbidden_sass("op_add", kernels["op_add"]))
    assert forbidden_sass("op_fma", kernels["op_fma"]) and forbidden_sass("matmul_64x64", kernels["matmul_64x64"])
    for name in (
        "RED.E.ADD.F32.FTZ.RN.STRONG.GPU",
        "ATOMG.E.ADD",
        "MUFU.EX2",
        "HMMA.1688.F32.TF32",
        "FMNMX",
        "FFMA.RZ",
    ):
        assert forbidden_sass("reduce_sum", [Instruction(name, "R1, R2, R3", 0)])
