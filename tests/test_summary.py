import json
import os

import pytest

from mmgen_jax import summary
from mmgen_jax.system.errors import UsageError


def test_table_averages_and_later_entries_replace_earlier_ones(tmp_path):
    log = tmp_path / "metrics.jsonl"
    entries = [(1, 4.0), (2, 9.0), (2, 2.0), (3, 1.0), (4, 0.0)]
    lines = [json.dumps({"step": s, "loss": v, "loss/rgb": v / 2, "samples_per_second": 10.0}) for s, v in entries]
    log.write_text("\n".join(lines))
    table = summary.summarise(summary.read(log), rows=2).splitlines()
    assert table[0] == "| steps up to | loss | rgb | samples/s |"
    assert table[2:] == ["| 2 | 3.000 | 1.500 | 10 |", "| 4 | 0.500 | 0.250 | 10 |"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ("[" * 100_000, "line 1"),
        ('{"step": 1e999}', "line 1"),
        ('{"step": 1}\nnonsense', "line 2 of"),
        ("[]", "line 1"),
        ('{"step": "a"}', "line 1"),
    ],
)
def test_damaged_logs_are_named(tmp_path, text, message):
    log = tmp_path / "metrics.jsonl"
    log.write_text(text)
    with pytest.raises(UsageError, match=message):
        summary.read(log)
    with pytest.raises(UsageError, match="does not exist"):
        summary.read(tmp_path / "other")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe is a FIFO; allowed: a file"):
        summary.read(tmp_path / "pipe")


@pytest.mark.parametrize("value", ['"x"', "null", "[1]", "true", "{}"])
def test_entries_that_are_no_numbers_are_named(tmp_path, value):
    (tmp_path / "log").write_text(f'{{"step": 1, "loss": {value}}}\n')
    with pytest.raises(UsageError, match="line 1 of .*log' is not an entry of a log .'loss' is .*, not a number"):
        summary.read(tmp_path / "log")
