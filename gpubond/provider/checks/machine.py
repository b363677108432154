# SPDX-License-Identifier: Apache-2.0
"""Checks of the machine: disk, memory, sandbox, driver and GPU."""

from __future__ import annotations

import os
import shutil

from gpubond.provider import devices, nvml
from gpubond.provider.checks.check import Finding, Subject, failed, ok, warning
from gpubond.provider.executors import cgroups, defences, seccomp
from gpubond.provider.executors.by_runtime import container_executor
from gpubond.provider.executors.process import ProcessExecutor
from gpubond.provider.gpus.units import machine_units, missing_nodes, sellable
from gpubond.provider.gpus.words import summary

_MIB = 1 << 20


def disk(subject: Subject) -> Finding:
    """A job's disk and a buyer's blobs fit on it."""
    policy, count = subject.provider, subject.offer.count
    place = subject.home.directory
    free = shutil.disk_usage(place).free // _MIB
    # A running job's folder and a copy of what it leaves; beside them the blobs of its buyer.
    one = 2 * policy.max_disk_mib + subject.gateway.max_blob_mib
    all_of_them = count * 2 * policy.max_disk_mib + policy.storage_mib
    words = f"{free:,} MiB are free at {place}"
    if free < one:
        return failed(
            f"{words}, a single job may need {one:,}",
            "free some, or lower provider.max_disk_mib or gateway.max_blob_mib",
        )
    if free < all_of_them:
        return warning(
            f"{words}; {count} jobs of provider.max_disk_mib and one buyer's provider.storage_mib "
            f"may need {all_of_them:,}",
            "free some, or lower those two",
        )
    return ok(f"{words}, {all_of_them:,} may be needed")


def memory(subject: Subject) -> Finding:
    """The jobs' memory fits into the machine's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MIB
    needed = subject.offer.count * subject.provider.max_memory_mib
    if subject.provider.max_memory_mib > total:
        return failed(
            f"a job may use {subject.provider.max_memory_mib:,} MiB, the machine has {total:,}",
            "lower provider.max_memory_mib",
        )
    if needed > total:
        return warning(
            f"{subject.offer.count} jobs at once may use {needed:,} MiB, the machine has {total:,}",
            "lower provider.max_memory_mib or offer.count",
        )
    return ok(f"{total:,} MiB, {needed:,} may be used by jobs")


def sandbox(subject: Subject) -> Finding:
    """A sandbox can be made, Python and NumPy start in it, and what limits a job is in force."""
    ProcessExecutor(subject.home.work).check()
    found = defences.here()
    words = f"Python and NumPy start in it; in force here: {found.words}"
    if seccomp.program() is None:
        return warning(words, "run the worker on x86_64 or aarch64, for which there is a filter")
    missing = sorted(cgroups.find().missing.keys() & {"memory", "pids"})
    if missing:
        return warning(
            words,
            f"let the worker make control groups ({', '.join(missing)}): as a systemd service with "
            '"Delegate=memory pids cpu", as in packaging/gpubond-provider.service, or as root',
        )
    return ok(words)


def containers(subject: Subject) -> Finding:
    """A container can be made, if jobs in containers are served."""
    if "container" not in subject.provider.runtimes:
        return ok('not served; to run images of buyers, add "container" to provider.runtimes')
    executor = container_executor(subject.home, subject.provider, subject.offer)
    executor.check()
    engine = executor.engine()
    seen = "" if devices.has_gpu() is False else "; GPUs by CDI"
    if not engine.cgroups:
        return warning(
            f"{engine.words}{seen}",
            "let the worker make groups: run it as root, or on a machine with cgroup version 2 as a service of systemd "
            "with Delegate=yes",
        )
    return ok(f"{engine.words}{seen}")


def gpu(subject: Subject) -> Finding:  # noqa: PLR0911  # one for each thing that can be found
    """The machine is what is offered, and what is offered is well."""
    offered, count = subject.offer.resource_class, subject.offer.count
    driver = nvml.look()
    here = sellable()
    listed = ", ".join(here)
    if offered == devices.CPU_SIM:
        if offered in here:
            return ok(f"none, and class {offered} needs none ({devices.no_gpu_reason()})")
        return warning(
            f"this machine has {devices.device_name()}, but {offered} is offered",
            f'to sell the GPU, write class = "{next(iter(here))}" in [offer] and run `gpubond provider join`',
        )
    if driver.mismatch is not None:
        return failed(f"the NVIDIA driver does not work: {driver.mismatch}", "reboot, or load the module that fits")
    if devices.CPU_SIM in here:
        return failed(
            f"{offered} is offered, and there is no usable GPU: {devices.no_gpu_reason()}",
            "install NVIDIA's driver and reboot; `nvidia-smi` must list the GPU",
        )
    if offered not in here:
        return failed(
            f"{offered} is offered, this machine is {listed}",
            f'write class = "{next(iter(here))}" in [offer] and run `gpubond provider join`',
        )
    units = [unit for unit in machine_units() if unit.class_name == offered]
    if count > len(units):
        return failed(
            f"{count} jobs at once are offered, and there are {len(units)} of {offered}: a job gets one of its own",
            f"set offer.count to {max(1, len(units))} and run `gpubond provider join`",
        )
    lacking = sorted({str(path) for unit in units for path in missing_nodes(unit)})
    if lacking:
        return failed(
            f"CUDA needs device nodes that are missing: {', '.join(lacking)}",
            "`nvidia-modprobe -u -c=0` makes them, `nvidia-modprobe -f` those of MIG; in a container, pass them in",
        )
    ill = [f"GPU {each.index}: {each.uncorrected} errors not corrected" for each in driver.gpus if each.uncorrected]
    if driver.lost or ill:
        return warning(
            f"{', '.join([*driver.lost, *ill])}; jobs there may fail",
            "drain the worker and reset it (`nvidia-smi --gpu-reset`), or reboot; replace it if that does not help",
        )
    return ok(f"{len(units)} x {units[0].name}, {summary(driver)}")
