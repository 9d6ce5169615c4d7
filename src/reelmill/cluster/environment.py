"""The environment a job gets: what it needs to find its programs, and nothing that is a secret.

Slurm keeps a submitted job's environment on its disk and hands it to every task. So only names known to be
needed go with it; a Comet key is read from Comet's own configuration file. Nor does anything of the Slurm
job that may be submitting (SLURM_CPU_BIND above all): it would bind the new job to the old one's place.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence

_NAMES = {
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "LIBRARY_PATH",
    "SLURM_CONF", "VIRTUAL_ENV", "PYTHONPATH", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "COMET_CONFIG",
    "COMET_MODE", "HF_HOME", "HF_DATASETS_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TORCH_HOME",
    "CUDA_HOME", "CUDA_PATH", "LOADEDMODULES", "_LMFILES_", "BASH_ENV",
}  # fmt: skip
_PREFIXES = (
    "LC_", "REELMILL_", "OMP_", "MKL_", "NCCL_", "GLOO_", "TORCH_NCCL_", "MODULE", "LMOD_", "CONDA_",
    "BASH_FUNC_",
)  # fmt: skip
# Of names that nobody asked for by name, whatever might be a secret stays here.
_PERHAPS_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|COOKIE", re.IGNORECASE)
# Not TOKENIZERS_PARALLELISM, NCCL_IB_PKEY or HF_TOKEN_PATH.
_SECRET = re.compile(
    r"(^|_)(\w*API_?KEY|KEY|\w*TOKEN|PASS|AUTH|COOKIE)(_|$)|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL",
    re.IGNORECASE,
)
_WHERE = re.compile(r"_(DIR|FILE|PATH|SOCK)$", re.IGNORECASE)
_WHERE_SLURM_IS = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
_OPTIONS_OF_SLURM = (
    "SLURM_", "SQUEUE_", "SACCT_", "SACCTMGR_", "SBATCH_", "SCANCEL_", "SCONTROL_", "SINFO_", "SRUN_",
    "SALLOC_",
)  # fmt: skip
_OWN_JOB = (
    "REELMILL_JOB", "REELMILL_SECONDS_LEFT", "REELMILL_PYTHON", "REELMILL_SHARE", "REELMILL_PROCESSORS",
    "REELMILL_MEMORY",
)  # fmt: skip


def submission_environment(environ: Mapping[str, str], further: Sequence[str] = ()) -> dict[str, str]:
    """What of ``environ`` a submitted job sees: the names known to be needed, and ``further`` ones by
    request. Nothing that looks like a secret is among them.
    """
    return {
        name: value
        for name, value in environ.items()
        if (name in further and not looks_secret(name))
        or (
            (name in _NAMES or name.startswith(_PREFIXES))
            and not _PERHAPS_SECRET.search(name)
            and name not in _OWN_JOB
        )
    }


def looks_secret(name: str) -> bool:
    """Whether a variable of this name is likely to hold a key, a token or a password."""
    return _SECRET.search(name) is not None and not _WHERE.search(name)


def client_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``environ`` without what Slurm's programs take options from (SQUEUE_STATES and the like): they
    would answer another question than the one asked. Where Slurm is and who asks stays.
    """
    return {
        name: value
        for name, value in environ.items()
        if name in _WHERE_SLURM_IS or not name.startswith(_OPTIONS_OF_SLURM)
    }


@contextlib.contextmanager
def replaced(environment: Mapping[str, str]) -> Iterator[None]:
    """This process's environment replaced by ``environment`` for a while: sbatch hands its own on."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def take_rank(environ: MutableMapping[str, str]) -> int:
    """This task's global rank; sets what torch and Accelerate read from what Slurm says, where Slurm says it.

    So too the processors and the memory that songs are made with: not every Slurm binds a task to its own.
    CUDA_VISIBLE_DEVICES stays as Slurm set it: all of the node's GPUs given to the job, of which LOCAL_RANK
    is one.
    """
    if "SLURM_PROCID" in environ and "MASTER_ADDR" in environ:
        tasks = int(environ.get("SLURM_NTASKS") or environ.get("SLURM_STEP_NUM_TASKS") or 1)
        here = int(environ.get("SLURM_STEP_TASKS_PER_NODE", str(tasks)).split("(")[0].split(",")[0])
        environ["RANK"] = environ["SLURM_PROCID"]
        environ["LOCAL_RANK"] = environ.get("SLURM_LOCALID", "0")
        environ["WORLD_SIZE"] = str(tasks)
        environ["LOCAL_WORLD_SIZE"] = str(here)
    if environ.get("SLURM_CPUS_PER_TASK", "").isdecimal():
        processors = min(int(environ["SLURM_CPUS_PER_TASK"]), len(os.sched_getaffinity(0)))
        environ.setdefault("REELMILL_PROCESSORS", str(processors))
    if memory := _memory(environ):
        environ.setdefault("REELMILL_MEMORY", str(memory))
    return int(environ.get("RANK") or 0)


def _memory(environ: Mapping[str, str]) -> int:
    """Bytes that the job asked for, for this task; 0 where it did not say, or asked for all of the node.

    Slurm has megabytes, of a node (which its tasks share) or of a processor.
    """
    node, each = (environ.get(f"SLURM_MEM_PER_{of}", "") for of in ("NODE", "CPU"))
    if node.isdecimal():
        return (int(node) << 20) // int(environ.get("LOCAL_WORLD_SIZE") or 1)
    if each.isdecimal():
        return (int(each) << 20) * int(environ.get("SLURM_CPUS_PER_TASK") or 1)
    return 0
