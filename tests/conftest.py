"""One thread a test: the sizes are small, and two threads on busy cores wait for each other.

No test hears with the ears that are installed on this machine.
"""

import os
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ["UNDERSONG_EARS"] = str(Path(__file__).parent / "no-ears")
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
