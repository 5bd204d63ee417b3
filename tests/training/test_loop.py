"""Tests the training loop by itself."""

from __future__ import annotations

import contextlib
import types
from unittest import mock

import jax
import numpy as np
import pytest
from annotations import unchecked

from mmgen_jax.training.loop import run_loop


def stepped(advance, steps=2):
    """Runs `advance` in the loop, with everything around it doing nothing; returns what the loop reported."""
    train = types.SimpleNamespace(steps=steps, save_every=steps, log_every=steps)
    state = types.SimpleNamespace(step=0, ema=None)
    report, saver, profiler = mock.MagicMock(), mock.MagicMock(), mock.MagicMock()
    report.clock = lambda _: contextlib.nullcontext()
    profiler.ends.return_value = False
    report.row.return_value = {"loss": 1.0}
    batches = iter([np.ones(3, np.float32)] * steps)
    with unchecked():  # stand-ins of all kinds
        run_loop(train, state, batches, advance, report, saver, profiler, [])
    return report


def test_nothing_is_sent_to_devices_unasked():
    total = jax.jit(lambda x: x.sum())
    report = stepped(lambda state, batch: (state, {"loss": total(jax.device_put(batch))}))
    assert report.add.call_count == 2
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        stepped(lambda state, batch: (state, {"loss": total(batch)}))


def test_steps_are_named_in_profiles(monkeypatch):
    named = []
    annotation = lambda name, step_num: named.append((name, step_num)) or contextlib.nullcontext()  # noqa: E731
    monkeypatch.setattr(jax.profiler, "StepTraceAnnotation", annotation)
    stepped(lambda state, _: (state, {}))
    assert named == [("train", 1), ("train", 2)]
