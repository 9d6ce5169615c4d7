"""What all tests share: one thread a process, and a Comet that is never reached by accident."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
for name in ("COMET_API_KEY", "COMET_WORKSPACE", "COMET_PROJECT_NAME"):
    os.environ.pop(name, None)
