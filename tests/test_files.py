import pytest

from mmgen_jax import files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.json"
    files.write(path, b"old")
    files.write(path, b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(TypeError):
        files.write(path, "no bytes")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]
