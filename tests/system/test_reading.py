"""Files that are read: only regular ones, and whatever is in them is told in one line."""

import os
import socket

import pytest

from mmgen_jax.system import reading
from mmgen_jax.system.errors import UsageError


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    socket.socket(socket.AF_UNIX).bind(str(path))


@pytest.mark.parametrize(
    "make, message",
    [
        (make_fifo, "x is a FIFO; allowed: a file"),
        (make_socket, "x is a socket; allowed: a file"),
        (os.mkdir, "x is a folder; allowed: a file"),
        (lambda path: path.symlink_to("/dev/zero"), "x is a device; allowed: a file"),
        (lambda path: path.symlink_to(path), "x is a link that leads nowhere; allowed: a file"),
        (lambda path: path.symlink_to("nowhere"), "x is a link that leads nowhere; allowed: a file"),
        (lambda path: None, "x: no such file"),
    ],
)
@pytest.mark.parametrize("read", [reading.contents, reading.text, reading.json_file])
def test_what_is_not_a_file_is_not_opened(tmp_path, monkeypatch, read, make, message):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    path = tmp_path / "x"
    make(path if make is not make_socket else path.relative_to(tmp_path))
    with pytest.raises(UsageError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_names_that_no_file_has():
    for name in ("a\0b", "/dev/null/below", "n" * 5000):
        with pytest.raises(UsageError, match="no such file|allowed: a path"):
            reading.regular(name)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe{\0}\0",
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": 1} x',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"{'a': 1}",
        b"1" * 5000,
        b"[]",
        b"null",
        b"3",
        b'"text"',
        b"\0" * 100,
    ],
)
def test_bad_json_is_one_line(tmp_path, data):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"a\.json is (damaged or not|JSON of the type .*; allowed: dict)") as caught:
        reading.json_file(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_good_json_and_text(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes('\ufeff{"größe": [1, 2.5]}'.encode())
    assert reading.json_file(path) == {"größe": [1, 2.5]}
    assert reading.text(path) == '{"größe": [1, 2.5]}'
    assert reading.parse_json("[1]", "x", list) == [1]
