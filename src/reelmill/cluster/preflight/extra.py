"""Further sbatch options of a cluster file (``extra``): those that have a key of their own would go round it.

The limits of the cluster are checked by key, and several options (``--array``, ``--signal``, ``--export`` …)
are what reelmill itself steers a job by. Options that are neither, such as ``--constraint`` or
``--reservation``, are handed on as they are.
"""

from __future__ import annotations

import re

_KEYS = {
    "partition": "partition", "account": "account", "qos": "qos", "nodes": "nodes",
    "ntasks": "nodes and tasks_per_node", "ntasks-per-node": "tasks_per_node",
    "ntasks-per-core": "tasks_per_node", "ntasks-per-socket": "tasks_per_node",
    "ntasks-per-gpu": "tasks_per_node", "gpus": "gpus_per_node",
    "gpus-per-node": "gpus_per_node", "gpus-per-task": "gpus_per_node",
    "gpus-per-socket": "gpus_per_node", "cpus-per-task": "cpus_per_task", "cpus-per-gpu": "cpus_per_task",
    "mem": "memory", "mem-per-cpu": "memory", "mem-per-gpu": "memory", "time": "time", "time-min": "time",
    "exclude": "exclude", "signal": "warning", "export": "pass_environment",
    "export-file": "pass_environment", "array": "array_parallelism, with --tasks",
}  # fmt: skip
_OURS = {
    "dependency", "requeue", "no-requeue", "kill-on-invalid-dep", "job-name", "output", "error", "open-mode",
    "input", "chdir", "wrap", "wait", "parsable", "test-only", "no-kill",
}  # fmt: skip
_RESOURCES = {"gres", "tres-per-job", "tres-per-node", "tres-per-socket", "tres-per-task"}


def extra_problem(option: str) -> str:
    """Why ``option`` may not stand in ``extra``, and what should instead; empty if it may."""
    matched = re.fullmatch(r"--([a-z][a-z-]*)([= ].+)?", option)
    if matched is None:
        return f"extra: {option!r}: expected --option or --option=value"
    name, value = matched[1], matched[2] or ""
    if name in _RESOURCES and "gpu" in value:
        return _problem(option, "gpus-per-node")
    if name in _KEYS or name in _OURS:
        return _problem(option, name)
    return f"extra: {option!r}: expected --{name}=value" if value.startswith(" ") else ""


def _problem(option: str, name: str) -> str:
    if name in _KEYS:
        return f"extra: {option!r} has a key of its own, whose limits are checked: set {_KEYS[name]}"
    return f"extra: {option!r} is set by reelmill itself: leave it out"
