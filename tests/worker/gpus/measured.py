# SPDX-License-Identifier: Apache-2.0
"""A script for `Machine.run`: jobs whose energy the worker's own meter measures on a recorded machine, and whose
results go the worker's own way into its store. Only what they compute is left out: a recorded GPU computes nothing."""

MEASURE = """
import threading
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.reasons import Reason
from gpubond.provider.executors.attempt import Attempt
from gpubond.provider.executors.log import JobLog
from gpubond.provider.executors.supervise import Ending
from gpubond.provider.gpus.allocation import Gpus
from gpubond.provider.runs import _keep
from gpubond.provider.work import WorkLog, WorkState
from gpubond.store.database import Database

home = Path(sys.argv[1])
work = WorkLog(Database(home / "store.sqlite"))
blobs = BlobStore(home / "measured")
gpus = Gpus()
counter = 10**9

def measured(job, joules, seconds, code, state):
    global counter
    machine.says("gpu0", "energy", counter)
    log = JobLog(home / f"{job}.log", None, 1 << 20)
    share = gpus.share(True, threading.Event(), log)
    share.start()
    counter += joules * 1000
    machine.says("gpu0", "energy", counter)
    share.finish(Ending(code, Reason.OK if code == 0 else Reason.NONZERO_EXIT, "", seconds), {})
    reason = Reason.OK if code == 0 else Reason.NONZERO_EXIT
    attempt = Attempt(
        code, reason, seconds, "", log.path, False, {}, share.device("cpu"), share.energy, share.gpu_class
    )
    share.release()
    log.close()
    work.adopt(job)
    work.move(job, WorkState.EXECUTED, reason=reason, result=_keep(job.removeprefix("0x"), attempt, blobs))
    work.move(job, state)
"""
