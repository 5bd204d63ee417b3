"""Tests the commands in docs/tpu/tpu.md, and the stand-in for gcloud that they and launch/tpu.sh are checked with."""

import re
import shlex

import pytest
from gcloud import fake_gcloud
from gcloud.cloud import ROOT, standing


def test_commands_of_the_guide_are_right(tmp_path):
    """The real gcloud's parser must know what dry runs print, and the gcloud commands in the guide."""
    with standing(tmp_path) as cloud:
        check_guide(cloud)


def check_guide(cloud):
    cloud.tpu("create", "mmgen", "--zone=us-west4-a", "--accelerator=v5litepod-16", "--spot")
    (cloud.repo / ".tpu" / "mmgen" / "command").write_text("--config=a\n")
    text = "".join(re.findall(r"^```bash\n(.*?)^```$", (ROOT / "docs" / "tpu" / "tpu.md").read_text(), re.M | re.S))
    commands = [shlex.split(line) for line in text.replace("\\\n", " ").splitlines()]
    assert {words[1] for words in commands if words[0] == "./launch/tpu.sh"} == {
        *("create", "setup", "run", "logs", "status", "watch", "stop", "delete")
    }
    for program, *words in commands:
        if program == "gcloud":
            fake_gcloud.parse(words)
            continue
        assert program == "./launch/tpu.sh"
        out, _ = cloud.tpu(*words[:2], "--dry-run", *words[2:])
        for line in out.splitlines():
            if line.startswith("gcloud "):
                fake_gcloud.parse(shlex.split(line)[1:])


def test_the_stand_in_refuses_what_gcloud_refuses():
    for words in (
        "compute tpus tpu-vm ssh a --tunnel-through-iap",
        "compute tpus tpu-vm ssh a --plain=1",
        "compute ssh",
    ):
        with pytest.raises(SystemExit):
            fake_gcloud.parse(words.split())
