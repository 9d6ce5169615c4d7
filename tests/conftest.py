"""What all tests share: one thread a process, no GPU, a Comet that is never reached by accident, interrupts.

A shell has what it starts in the background ignore interrupts, and so would all that tests interrupt.
"""

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
for name in ("COMET_API_KEY", "COMET_WORKSPACE", "COMET_PROJECT_NAME"):
    os.environ.pop(name, None)


def pytest_configure(config):
    """Hide the GPUs from tests and from what they start, unless ``-m cuda`` asks for those that need one.

    Left to itself reelmill takes a GPU where there is one, and tests that start two processes, or compare
    bits with a CPU's, would fail on a machine with one GPU. CUDA looks at the variable when it is first used,
    which no test has done yet; workers of pytest-xdist inherit it.
    """
    if config.option.markexpr != "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
