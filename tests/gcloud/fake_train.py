"""A stand-in for training on a worker: notes its arguments, logs a step and ends as $FAKE_GCLOUD/plan says.

Line n of the plan is for the n-th start of each worker: "STEP CODE", "STEP CODE WORKER" where only that worker ends
with the code and the others wait, or "STEP hang" to wait for a signal: 75 then; "STEP stuck" ignores the signal.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def main(arguments: list[str]) -> int:
    root, worker = Path(os.environ["FAKE_GCLOUD"]), os.environ["WORKER"]
    starts = root / f"starts-{worker}.jsonl"
    with starts.open("a") as file:
        file.write(json.dumps(arguments) + "\n")
    plan = (root / "plan").read_text().splitlines()
    step, code, *only = plan[min(len(starts.read_text().splitlines()), len(plan)) - 1].split()
    if only and not worker.endswith(only[0]):
        code = "hang"
    if code in ("hang", "stuck"):
        signal.signal(signal.SIGTERM, (lambda *_: sys.exit(75)) if code == "hang" else signal.SIG_IGN)
    print(f"step {step}/100  loss 1.0", flush=True)
    if code in ("hang", "stuck"):
        time.sleep(600)
    if int(code):
        print(f"error: ended with {code} (as planned)", flush=True)
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
