"""Tests which part of a batch a process reads, and how processes find each other."""

import dataclasses

import jax
import numpy as np
import pytest
from annotations import unchecked

from mmgen_jax.parallel import sharding
from mmgen_jax.system import hosts
from mmgen_jax.system.errors import HostLost


@dataclasses.dataclass(frozen=True)
class Device:
    process_index: int


class Mesh:
    """Stands for a mesh: its shape, and its devices, given by the numbers of their processes."""

    def __init__(self, processes):
        self.devices = np.vectorize(Device)(np.array(processes))
        self.shape = dict(zip(("data", "fsdp", "tensor"), self.devices.shape, strict=True))


@pytest.mark.parametrize(
    "processes, process, expected",
    [
        ([[[0]], [[0]], [[1]], [[1]]], 1, ((1,), 2)),  # neighbours are one part
        ([[[0]], [[0]], [[1]], [[1]]], 0, ((0,), 2)),
        ([[[0]], [[1]], [[0]], [[1]]], 1, ((1, 3), 4)),  # as two by two chips of a host on a torus
        ([[[0], [0]], [[1], [1]], [[2], [2]]], 2, ((2,), 3)),
        ([[[0, 1]], [[0, 1]]], 1, ((0,), 1)),  # tensor parallel across hosts: both need everything
        ([[[0, 0], [0, 0]]], 0, ((0,), 1)),
        ([[[0]], [[1]], [[1]], [[0]]], 1, ((1, 2), 4)),
    ],
)
def test_parts_of_the_batch_follow_the_devices(monkeypatch, processes, process, expected):
    monkeypatch.setattr(jax, "process_index", lambda: process)
    with unchecked():  # a stand-in
        assert sharding.batch_parts(Mesh(processes)) == expected


def test_one_process_agrees_with_itself():
    assert hosts.is_first() and hosts.first_text("x") == "x" and hosts.total(np.array([3, 4])).sum() == 7
    hosts.meet("alone")
    assert hosts.only_first(dict, [(1, 2)]) == {1: 2}


def test_silent_takes_anything():
    assert hosts.Silent().scalars(1, {"a": 2}) is None


@pytest.mark.parametrize(
    "text",
    [
        "UNKNOWN: Gloo AllGather failed: [external/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer",
        "UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n1",
        "DEADLINE_EXCEEDED: Barrier timed out. Id: [Init]Wait_for_all_tasks_to_register",
    ],
)
def test_hosts_that_do_not_answer_are_told_apart_from_other_errors(text, monkeypatch):
    """Messages of JAX 0.10 when a process of two was killed; a run of one process cannot lose a host."""
    with pytest.raises(jax.errors.JaxRuntimeError), hosts.losing_hosts():
        raise jax.errors.JaxRuntimeError(text)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(HostLost, match="another host has ended.*the same command"), hosts.losing_hosts():
        raise jax.errors.JaxRuntimeError(text)
    assert hosts.lost(OSError(28, "No space left on device")) is None
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE"), hosts.losing_hosts():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.")
