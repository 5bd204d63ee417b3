"""Reconstructions of analytic scenes, their files as the mesh library reads them, and what is refused."""

import base64

import analytic_scenes
import numpy as np
import pytest
import trimesh
from annotations import unchecked
from PIL import Image

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.show.outputs import Outputs
from mmgen_jax.surfaces.reconstruction import reconstruct
from mmgen_jax.system.errors import UsageError

FOV = 50.0


@pytest.fixture(scope="module")
def room():
    """Depth, normals, colours and facts of a room."""
    z, normal = analytic_scenes.room(FOV, 24, 32)
    depth, depth_range = analytic_scenes.relative(z)
    rgb = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    return depth, normal, rgb, Facts(fov_degrees=FOV, depth_range=depth_range), z


@pytest.fixture(scope="module")
def made(room):
    depth, normal, rgb, facts, _ = room
    return reconstruct(depth, normal, rgb, facts=facts)


def test_points_are_where_the_camera_sees_them(room, made):
    z = room[-1]
    expected = (analytic_scenes.rays(FOV, 24, 32) * z[..., None]).reshape(-1, 3)
    off = np.linalg.norm(made.points - expected, axis=1) / z.ravel()
    assert np.median(off) < 1e-3 and (off > 0.01).mean() < 0.03 and off.max() < 0.1  # most of all at edges
    np.testing.assert_array_equal(made.colors, room[2].reshape(-1, 3))
    assert made.view.metric and made.guided
    assert str(made).endswith(
        f"(of the data set); depth guided by normals; 768 points, {len(made.mesh.faces)} triangles"
    )


def test_mesh_file(made, tmp_path):
    made.save(tmp_path / "a.glb")
    scene = trimesh.load(tmp_path / "a.glb", process=False)
    [read] = scene.geometry.values()
    np.testing.assert_allclose(read.vertices, made.points, rtol=1e-6)
    np.testing.assert_array_equal(read.faces, made.mesh.faces)
    np.testing.assert_allclose(read.vertex_normals, made.mesh.normals(), atol=1e-6)
    np.testing.assert_array_equal(np.asarray(read.visual.material.baseColorTexture.convert("RGB")), made.image)
    np.testing.assert_array_equal(read.visual.to_color().vertex_colors[:, :3], made.colors)
    assert b"KHR_materials_unlit" in (tmp_path / "a.glb").read_bytes()


def test_points_file(made, tmp_path):
    made.save(str(tmp_path / "a.PLY"))
    read = trimesh.load(tmp_path / "a.PLY", process=False)
    np.testing.assert_allclose(read.vertices, made.points, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(read.colors)[:, :3], made.colors)
    header = (tmp_path / "a.PLY").read_bytes().partition(b"end_header")[0].decode()
    assert "element vertex 768" in header and "property float nz" in header and "property uchar red" in header


def test_turntable_file(made, tmp_path):
    made.save(tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames > 20 and image.size == (512, 256)
        first = np.asarray(image.convert("RGB"), int)
        image.seek(image.n_frames // 4)
        assert np.abs(np.asarray(image.convert("RGB"), int) - first).mean() > 5


def test_notebooks_show_the_turntable(made, tmp_path):
    made.save(tmp_path / "a.gif")
    text = made._repr_html_()
    assert base64.b64encode((tmp_path / "a.gif").read_bytes()).decode() in text and f"<figcaption>{made}" in text


def test_camera_of_a_user_counts_first(room):
    depth, normal, rgb, facts, _ = room
    assert reconstruct(depth, normal, rgb, fov=33, facts=facts).view.fov_is == "given"
    with unchecked():
        assert reconstruct(depth, normal, rgb, fov=np.float32(33), facts=facts).view.camera.fov == 33
    assert reconstruct(depth, normal).view.camera.fov == pytest.approx(FOV, abs=1.5)


def test_depth_alone(room):
    depth, _, _, facts, z = room
    made = reconstruct(depth, facts=facts)
    assert not made.guided and made.image.shape == (24, 32, 3)
    np.testing.assert_allclose(-made.points[:, 2], z.ravel(), rtol=1e-6)


def test_holes(room):
    depth, normal, rgb, facts, _ = room
    holes = depth.copy()
    holes[4:8, 5:9] = np.nan
    made = reconstruct(holes, normal, rgb, facts=facts)
    assert len(made.points) == depth.size - 16 and np.isfinite(made.points).all()
    one = np.full(depth.shape, np.nan)
    one[3, 3] = 0.5
    assert len(reconstruct(one, normal, rgb, facts=facts).points) == 1
    unknown = normal.copy()
    unknown[:, :9] = 0  # (128, 128, 128) in files
    assert reconstruct(depth, unknown, rgb, facts=facts).guided
    assert not reconstruct(depth, 0 * normal, rgb, facts=facts).guided
    for nothing in (np.full((4, 4), np.nan), np.zeros((1, 5))):
        with pytest.raises(UsageError, match="depth has .* pixels, .* of them valid; allowed: at least 2x2"):
            reconstruct(nothing)


@pytest.mark.parametrize("fov", [0, -3.0, 180, 200.0, np.nan, np.inf, "wide", True])
def test_fields_of_view_that_are_none(room, fov):
    with unchecked(), pytest.raises(UsageError, match="^fov is .*; it must be a number 1 to 170$"):
        reconstruct(room[0], fov=fov)


def test_files_of_other_kinds_and_places(made, tmp_path):
    for name in ("a.obj", "a", "a.glb.gz"):
        with pytest.raises(UsageError, match=r"suffix of .* is '.*'; allowed: .glb, .ply, .gif"):
            made.save(tmp_path / name)
    with pytest.raises(UsageError, match="cannot be written"):
        made.save("/proc/a.glb")
    assert not list(tmp_path.iterdir())


def test_of_outputs(room):
    depth, normal, rgb, facts, _ = room
    out = Outputs({"rgb": rgb[None], "depth": depth[None], "normal": normal[None]}, ("rgb",), facts)
    [one] = out.to_3d()
    assert one.guided and one.view.fov_is == "of the data set"
    [other] = out.to_3d(fov=70)
    assert other.view.camera.fov == 70
    [alone] = Outputs({"depth": depth[None].astype(np.float32)}, (), facts).to_3d()
    assert not alone.guided
    with pytest.raises(UsageError, match="to_3d needs depth; the samples have rgb"):
        Outputs({"rgb": rgb[None]}, (), facts).to_3d()
    with pytest.raises(UsageError, match="depth of the samples"):
        Outputs({"depth": depth[None] + 3}, (), facts).to_3d()
