"""Records the command line of the real gcloud, which the stand-in is checked against.

python tests/gcloud/record.py "$(gcloud info --format='value(installation.sdk_root)')" >tests/gcloud/recorded.json

The SDK carries a table of all its commands and flags, for completion in shells. What launch/ and docs/tpu/tpu.md use is
kept here, so that tests need no SDK: command -> flag -> "bool", "value", "dynamic" (a value too) or the allowed values.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

COMMANDS = (
    "auth application-default login",
    "auth login",
    "config set",
    "services enable",
    "storage buckets create",
    "storage cp",
    "compute tpus queued-resources create",
    "compute tpus queued-resources delete",
    "compute tpus queued-resources describe",
    "compute tpus tpu-vm scp",
    "compute tpus tpu-vm ssh",
)


def record(sdk: Path) -> dict:
    tree = runpy.run_path(str(sdk / "data" / "cli" / "gcloud_completions.py"))["STATIC_COMPLETION_CLI_TREE"]
    commands = {}
    for words in COMMANDS:
        node = tree
        for word in words.split():
            node = node["commands"][word]
        commands[words] = tree["flags"] | node["flags"]
    return {"version": (sdk / "VERSION").read_text().strip(), "commands": commands}


if __name__ == "__main__":
    print(json.dumps(record(Path(sys.argv[1])), indent=1, sort_keys=True))
