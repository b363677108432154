# SPDX-License-Identifier: Apache-2.0
"""CUDA C++ source of a job, compiled by NVRTC: no GPU or driver is needed for that.

Behind the source goes a check of every launch against its kernel's parameters, as static assertions. So a wrong
number or type of arguments is a compile error, before any money moves, and never a wild pointer on a device.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gpubond.errors import MissingTool
from gpubond.jobs.cuda_section import CudaOptions, CudaSection, Launch, source_without_comments

# What checks compile for when there is no device: the oldest that all of NVRTC 13 knows as a real machine.
CHECK_ARCHITECTURE = "sm_80"
CHECKS_NAME = "the job's launches"

_C_TYPES = {
    "int8": "signed char",
    "uint8": "unsigned char",
    "int16": "short",
    "uint16": "unsigned short",
    "int32": "int",
    "uint32": "unsigned int",
    "int64": "long long",
    "uint64": "unsigned long long",
    "float32": "float",
    "float64": "double",
    "i32": "int",
    "u32": "unsigned int",
    "i64": "long long",
    "u64": "unsigned long long",
    "f32": "float",
    "f64": "double",
}

_UNSUPPORTED = (
    (
        r"\b(?:texture|surface)\s*<|\btex(?:[123]D|Cubemap)\w*\s*[<(]|\bsurf(?:[123]D|Cubemap)\w+\s*[<(]"
        r"|\bcuda(?:Texture|Surface)Object_t\b",
        "textures and surfaces; use buffers",
    ),
    (r"<<<", "launches from source; list them in cuda.launches"),
    (r"\bcooperative_groups\b", "cooperative groups; use __syncthreads() and several launches"),
    (r"\b__cluster_dims__\b", "clusters of blocks; use several launches"),
)

# NVRTC has no standard library, hence the few traits written out. Plain char and long count as the fixed-size
# types of their width, on which they are represented alike.
_TRAITS = """
namespace gpubond_check {
template <class T> struct plain { typedef T type; };
template <class T> struct plain<const T> { typedef T type; };
template <class T> struct plain<volatile T> { typedef T type; };
template <class T> struct plain<const volatile T> { typedef T type; };
template <class T> struct fixed { typedef T type; };
template <> struct fixed<char> { typedef signed char type; };
template <> struct fixed<bool> { typedef unsigned char type; };
template <> struct fixed<long> { typedef long long type; };
template <> struct fixed<unsigned long> { typedef unsigned long long type; };
template <class A, class B> struct same { static const bool value = false; };
template <class A> struct same<A, A> { static const bool value = true; };
template <class P, class E> struct scalar_ok { static const bool value = same<typename fixed<P>::type, E>::value; };
template <class P, class E> struct buffer_ok { static const bool value = false; };
template <class P, class E> struct buffer_ok<P*, E> {
  typedef typename plain<P>::type item;
  static const bool value = same<typename fixed<item>::type, E>::value || same<item, void>::value ||
                            (same<item, char>::value && sizeof(E) == 1) || __is_class(item);
};
template <class T> struct element { typedef typename plain<T>::type type; };
template <class T, unsigned long long N> struct element<T[N]> { typedef typename element<T>::type type; };
template <class... P> struct list { static const int count = sizeof...(P); };
template <class F> struct parameters;
template <class... P> struct parameters<void (*)(P...)> { typedef list<P...> type; };
template <int I, class L> struct at { typedef void type; };
template <class H, class... T> struct at<0, list<H, T...>> { typedef H type; };
template <int I, class H, class... T> struct at<I, list<H, T...>> {
  typedef typename at<I - 1, list<T...>>::type type;
};
"""


def c_type(name: str) -> str:
    """C++ type of a buffer's dtype or of a scalar's kind."""
    return _C_TYPES[name]


def distinct_launches(cuda: CudaSection) -> list[tuple[int, Launch]]:
    """The launches, without those whose kernel and kinds of arguments an earlier one has already."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    result = []
    for number, launch in enumerate(cuda.launches):
        kinds = tuple(
            cuda.buffers[str(value)].dtype + "*" if kind == "buffer" else kind
            for kind, value in (argument.entry for argument in launch.args)
        )
        if (launch.kernel, kinds) not in seen:
            seen.add((launch.kernel, kinds))
            result.append((number, launch))
    return result


def launch_checks(cuda: CudaSection) -> str:
    """C++ that compiles only if each launch fits its kernel and each constant its variable; to follow the source."""
    lines = [f'\n#line 1 "{CHECKS_NAME}"', _TRAITS.strip("\n")]
    for number, launch in distinct_launches(cuda):
        kind = f"launch_{number}"
        title = f"cuda.launches.{number} ({launch.kernel})"
        lines.append(f"typedef parameters<decltype(&{launch.kernel})>::type {kind};")
        lines.append(
            f"static_assert({kind}::count == {len(launch.args)},"
            f' "{title}: the kernel takes another number of arguments than the {len(launch.args)} given");'
        )
        for position, argument in enumerate(launch.args):
            what, value = argument.entry
            if what == "buffer":
                dtype: str = cuda.buffers[str(value)].dtype
                test, wanted = "buffer_ok", f"a pointer to {dtype} (buffer {value})"
            else:
                dtype, test, wanted = what, "scalar_ok", what
            lines.append(
                f"static_assert({test}<at<{position}, {kind}>::type, {c_type(dtype)}>::value,"
                f' "{title}: argument {position} of the kernel is not {wanted}");'
            )
    for name, constant in (cuda.constants or {}).items():
        title = f"cuda.constants.{name}"
        lines.append(
            f"static_assert(sizeof({name}) == {constant.size},"
            f' "{title}: the variable has another size than the {constant.size} bytes of the input");'
        )
        lines.append(
            f"static_assert(buffer_ok<element<decltype({name})>::type*, {c_type(constant.dtype)}>::value,"
            f' "{title}: the variable does not hold {constant.dtype}");'
        )
    lines.append("}  // namespace gpubond_check\n")
    return "\n".join(lines)


def unsupported(name: str, source: str, *, sized: bool = True) -> list[str]:
    """What the source uses that jobs cannot, one line each as of a compiler. sized: some launch sets shared memory."""
    text = source_without_comments(source)
    found = [
        (match.start(), f"jobs do not support {what}")
        for pattern, what in _UNSUPPORTED
        if (match := re.search(pattern, text))
    ]
    array = re.search(r"\bextern\s+__shared__\b", text)
    if array and not sized:
        found.append((array.start(), "no launch says how large this array is; add shared_bytes to it in the job file"))
    lines = [(text.count("\n", 0, at) + 1, what) for at, what in sorted(found)]
    return [f"{name}({line}): error: {what}" for line, what in lines]


def common_defines(options: CudaOptions) -> list[str]:
    """-D options, in a fixed order."""
    return [f"-D{name}={options.define[name]}" for name in sorted(options.define)]


def nvrtc_options(options: CudaOptions, architecture: str) -> list[str]:
    """NVRTC's command line for `architecture` ("sm_80", "compute_120")."""
    chosen = [f"--gpu-architecture={architecture}", f"--std={options.std}"]
    chosen.append(f"--fmad={'true' if options.fmad else 'false'}")
    if options.use_fast_math:
        chosen.append("--use_fast_math")
    return chosen + common_defines(options)


@dataclass(frozen=True)
class Compiled:
    """What NVRTC made: its log, and unless it failed the image (cubin, or PTX for a virtual architecture) and the
    symbol of each kernel and each constant in it."""

    ok: bool
    log: str
    image: bytes
    symbols: Mapping[str, str]


def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc

        status, *_ = nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingTool(
            f"NVRTC, NVIDIA's runtime compiler, cannot be loaded: {error}",
            field="cuda",
            remedy="install it: pip install 'gpubond[cuda]' (no GPU is needed)",
        ) from error
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise MissingTool(f"NVRTC does not answer: {status}", field="cuda", remedy="install it anew")
    return nvrtc


def nvrtc_version() -> str:
    """For example "13.5". Raises MissingTool."""
    nvrtc = _nvrtc()
    _, major, minor = nvrtc.nvrtcVersion()
    return f"{major}.{minor}"


def best_architecture(major: int, minor: int, driver: int) -> str:
    """What to compile for on a device of this compute capability: its own code, else the newest PTX there is.

    driver: the newest CUDA that the driver knows, as it says it: 13020 for 13.2.
    """
    nvrtc = _nvrtc()
    _, known = _checked(nvrtc, nvrtc.nvrtcGetSupportedArchs())
    _, *version = _checked(nvrtc, nvrtc.nvrtcVersion())
    return choose_architecture(major * 10 + minor, driver, (version[0], version[1]), list(known))


def choose_architecture(capability: int, driver: int, nvrtc: tuple[int, int], known: list[int]) -> str:
    """`best_architecture` of a device (90 for 9.0) by an NVRTC of that version and those architectures.

    A driver loads machine code of every CUDA of its own major version, but PTX of none that is newer than itself.
    """
    driver_version = (driver // 1000, driver % 1000 // 10)
    shown = f"{driver_version[0]}.{driver_version[1]}"
    remedy = f"install the NVRTC of the driver's CUDA, {shown} (pip: nvidia-cuda-nvrtc), or a newer driver"
    if nvrtc[0] > driver_version[0]:
        raise MissingTool(
            f"NVRTC {nvrtc[0]}.{nvrtc[1]} compiles for a newer CUDA than the driver's, {shown}",
            field="cuda",
            value=f"{nvrtc[0]}.{nvrtc[1]}",
            remedy=remedy,
        )
    if capability in known:
        return f"sm_{capability}"
    older = [arch for arch in known if arch < capability]
    if not older or nvrtc > driver_version:
        why = "its PTX is newer than the driver" if older else "it knows newer devices only"
        raise MissingTool(
            f"this NVRTC cannot compile for compute capability {capability // 10}.{capability % 10}: {why}",
            field="cuda",
            value=f"{nvrtc[0]}.{nvrtc[1]}",
            remedy=remedy if older else "install an older nvidia-cuda-nvrtc",
        )
    return f"compute_{max(older)}"


def _checked(nvrtc: Any, answer: tuple[Any, ...]) -> tuple[Any, ...]:
    if answer[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        _, text = nvrtc.nvrtcGetErrorString(answer[0])
        raise RuntimeError(f"NVRTC failed: {text.decode()}")
    return answer


def compile_program(
    source: str, cuda: CudaSection, architecture: str, headers: Mapping[str, str] | None = None
) -> Compiled:
    """Compile the source and check its launches.

    headers: name as in #include -> content. Raises: MissingTool; RuntimeError if NVRTC itself fails.
    """
    nvrtc = _nvrtc()
    files = dict(headers or {})
    sized = any(launch.shared_bytes for launch in cuda.launches)
    texts = {cuda.source: source, **files}
    refusals = [line for name, text in texts.items() for line in unsupported(name, text, sized=sized)]
    if refusals:
        return Compiled(False, "".join(f"{line}\n" for line in refusals), b"", {})
    names = sorted({launch.kernel for launch in cuda.launches} | set(cuda.constants or {}))
    _, program = _checked(
        nvrtc,
        nvrtc.nvrtcCreateProgram(
            (source + launch_checks(cuda)).encode(),
            cuda.source.encode(),
            len(files),
            [text.encode() for text in files.values()],
            [name.encode() for name in files],
        ),
    )
    try:
        return _compile(nvrtc, program, names, nvrtc_options(cuda.options, architecture))
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _compile(nvrtc: Any, program: Any, names: Iterable[str], options: list[str]) -> Compiled:
    for name in names:
        _checked(nvrtc, nvrtc.nvrtcAddNameExpression(program, f"&{name}".encode()))
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    _, size = _checked(nvrtc, nvrtc.nvrtcGetProgramLogSize(program))
    raw = bytearray(size)
    _checked(nvrtc, nvrtc.nvrtcGetProgramLog(program, raw))
    log = bytes(raw).rstrip(b"\0").decode(errors="replace")
    results = nvrtc.nvrtcResult
    if status in (results.NVRTC_ERROR_COMPILATION, results.NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID):
        return Compiled(False, log, b"", {})
    _checked(nvrtc, (status,))
    get_size, get = nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX
    if any(option.startswith("--gpu-architecture=sm_") for option in options):
        get_size, get = nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN
    _, size = _checked(nvrtc, get_size(program))
    image = bytearray(size)
    _checked(nvrtc, get(program, image))
    symbols = {}
    for name in names:
        _, symbol = _checked(nvrtc, nvrtc.nvrtcGetLoweredName(program, f"&{name}".encode()))
        symbols[name] = symbol.decode()
    return Compiled(True, log, bytes(image), symbols)
