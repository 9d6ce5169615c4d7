"""reelmill's command line, with a note of every process's weights after every step.

``digests.py ARGUMENTS``: as ``python -m reelmill ARGUMENTS``. Each process writes the SHA-256 of what its
optimizer has made of its weights, one line a step, to a file named for its rank in the directory
WEIGHTS_NOTED. The note is taken by a hook of PyTorch's, for optimizers of whatever program.
"""

import hashlib
import os
import runpy
from pathlib import Path
from typing import Any

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook


def note(optimizer: Optimizer, *_: Any) -> None:
    """Write a line."""
    digest = hashlib.sha256()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            digest.update(parameter.detach().cpu().numpy().tobytes())
    with (Path(os.environ["WEIGHTS_NOTED"]) / os.environ.get("RANK", "0")).open("a") as notes:
        notes.write(digest.hexdigest() + "\n")


register_optimizer_step_post_hook(note)
runpy.run_module("reelmill", run_name="__main__")
