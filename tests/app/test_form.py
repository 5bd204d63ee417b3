"""The form of the page as a request: the command and the Python that it shows make the same; bad input is told."""

from __future__ import annotations

import base64
import dataclasses
import io
import operator
import re
import runpy
import shlex
import zipfile

import numpy as np
import pytest
import tiny_model
from PIL import Image

from mmgen_jax import MMGen, sample
from mmgen_jax.app import __main__ as app
from mmgen_jax.app import brushes, form
from mmgen_jax.app.form import GIVEN, IGNORED, Form, Part
from mmgen_jax.app.result import figures, large, result
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import UsageError

SIZE = tiny_model.SIZE


@pytest.fixture(scope="module")
def model(model_dir):
    return MMGen.load(model_dir)


def encoded(array, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def url(array):
    return "data:image/png;base64," + base64.b64encode(encoded(array)).decode()


def painted(model, m):
    return form.shown(m, tiny_model.values()[m][0], model.architecture)


def of(**parts):
    """A form with what is said of some modalities; all others are made."""
    settings = {name: parts.pop(name) for name in list(parts) if name not in MODALITIES}
    return Form({m: parts.get(m, Part()) for m in MODALITIES}, **{"steps": 2, **settings})


def hole():
    region = np.zeros((SIZE, SIZE, 3), np.uint8)
    region[4:9, 3:12] = 255
    return region


@pytest.mark.parametrize("m", list(MODALITIES))
def test_what_is_uploaded_is_the_modality_that_is_given(model, m):
    value = tiny_model.values()[m][0]
    [picture] = (x for name, x in MODALITIES[m].files(value, model.architecture.facts).items() if name == f"{m}.png")
    text = form.uploaded(m, encoded(picture), model.architecture)
    request = form.parse(of(**{m: Part(GIVEN, text)}), model.architecture)
    error = MODALITIES[m].deviation(
        request.arguments(model.architecture)["given"][m][0], value, model.architecture.facts
    )
    assert error.max() <= {"depth": 0.5 / 255 + 1e-6, "normal": 0.5}.get(m, 0)


@pytest.mark.parametrize(
    "asked",
    [
        of(class_name="torus", guidance=2.0, seed=3),
        of(depth=Part(GIVEN, "picture", strength=0.5), mask=Part(GIVEN, "picture"), normal=Part(IGNORED), draws=2),
        of(rgb=Part(GIVEN, "picture", "region"), depth=Part(IGNORED), solver="euler"),
    ],
    ids=["class", "strengths", "region"],
)
def test_the_command_and_the_python_make_the_same(model, model_dir, asked, tmp_path, monkeypatch):
    pictures = {
        m: dataclasses.replace(p, picture=p.picture and painted(model, m), region=p.region and url(hole()))
        for m, p in asked.parts.items()
    }
    request = form.parse(dataclasses.replace(asked, parts=pictures), model.architecture)
    out = model.generate(**request.arguments(model.architecture), progress=lambda _: None)
    command, snippet = request.command(str(model_dir), "shapes_tiny"), request.snippet(str(model_dir))
    made = result(out, request, command, snippet)
    with zipfile.ZipFile(io.BytesIO(made.archive)) as archive:
        archive.extractall(tmp_path)
    wanted = {p.name: p.read_bytes() for p in (tmp_path / "samples").glob("*_000.png")}
    assert len(wanted) >= 3
    monkeypatch.chdir(tmp_path)
    assert (tmp_path / "again.py").read_text() == snippet
    runpy.run_path("again.py")
    assert {name: (tmp_path / "out/again" / name).read_bytes() for name in wanted} == wanted
    words = shlex.split((tmp_path / "again.sh").read_text())
    assert words[:3] == ["python", "-m", "mmgen_jax.sample"]
    sample.run(config_of(words), str(model_dir), tmp_path / "by command")
    assert {name: (tmp_path / "by command" / name).read_bytes() for name in wanted} == wanted


def config_of(words):
    """The config that the words of a command make, over that of the tiny model."""
    config = tiny_model.config()
    for name, text in (re.fullmatch("--config.(.*?)=(.*)", word).groups() for word in words if "--config." in word):
        config.update_from_flattened_dict({name: type(operator.attrgetter(name)(config))(text)})
    return config


def test_roles_become_arguments(model):
    picture = painted(model, "depth")
    asked = of(depth=Part(GIVEN, picture, strength=2.0), rgb=Part(IGNORED), class_name="box")
    request = form.parse(asked, model.architecture)
    assert request.options["wanted"] == ("normal", "mask") and request.options["strength"] == {"depth": 2.0}
    assert request.options["class_id"] == "box" and list(request.given) == ["depth"] and not request.keep
    request = form.parse(of(depth=Part(GIVEN, picture, url(hole()))), model.architecture)
    assert np.array_equal(request.keep["depth"], hole()[..., 0] == 0) and "wanted" not in request.options


TALL = np.zeros((200, 2, 3), np.uint8)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (of(depth=Part(GIVEN)), "depth is given, but has no picture"),
        (of(**dict.fromkeys(MODALITIES, Part(IGNORED))), "nothing is to be made"),
        (of(rgb=Part("best")), "role of rgb is 'best'; allowed: generate, given, ignore"),
        (of(solver="magic"), "solver is 'magic'"),
        (of(steps=10_000), "steps is 10000; it must be an integer 1 to 100"),
        (of(steps=2.5), "steps is 2.5"),
        (of(seed=None), "seed is None"),
        (of(seed=-1), "seed is -1"),
        (of(draws=1000), "draws is 1000; it must be an integer 1 to 16"),
        (of(guidance=float("nan")), "guidance is nan"),
        (of(class_name="../../etc/passwd"), "class is '../../etc/passwd'"),
        (of(rgb=Part(GIVEN, "/etc/passwd")), "picture of rgb is not what the page paints"),
        (of(rgb=Part(GIVEN, {"path": "/etc/passwd"})), "picture of rgb is not what the page paints"),
        (of(rgb=Part(GIVEN, "data:image/png;base64,%%%")), "picture of rgb is not what the page paints"),
        (of(rgb=Part(GIVEN, "data:image/png;base64,aGVsbG8=")), "picture of rgb cannot be read"),
        (of(rgb=Part(GIVEN, "data:image/png;base64," + "A" * 10**6)), "picture of rgb has 1000022 characters"),
        (of(rgb=Part(GIVEN, url(np.zeros((8, 8, 3), np.uint8)))), "picture of rgb has 8x8 pixels; allowed: 16x16"),
    ],
)
def test_bad_input_is_one_line(model, asked, message):
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        form.parse(asked, model.architecture)
    assert "\n" not in str(error.value)


def test_regions_and_strengths_that_mean_nothing(model):
    picture = painted(model, "rgb")
    with pytest.raises(UsageError, match="strength of rgb is 2; allowed: 1, as a region of rgb is made anew"):
        form.parse(of(rgb=Part(GIVEN, picture, url(hole()), 2.0)), model.architecture)
    with pytest.raises(UsageError, match="strength of rgb is 99"):
        form.parse(of(rgb=Part(GIVEN, picture, strength=99)), model.architecture)
    everything = {m: Part(GIVEN, painted(model, m)) for m in MODALITIES}
    with pytest.raises(UsageError, match="nothing is to be made"):
        form.parse(of(**everything), model.architecture)


@pytest.mark.parametrize(
    ("m", "data", "message"),
    [
        ("rgb", b"\x80\x04cos\nsystem\n", "file of rgb cannot be read"),
        ("rgb", b"", "file of rgb cannot be read"),
        ("rgb", encoded(TALL), "file of rgb has 2x200 pixels; allowed: one side at most 64 times"),
        ("rgb", bytes(form.MOST_BYTES + 1), "file of rgb has 20971521 bytes"),
        ("rgb", encoded(np.zeros((4200, 4200), np.uint8)), "file of rgb has 4200x4200 pixels"),
        ("depth", encoded(np.full((32, 32, 3), (200, 30, 30), np.uint8)), "file of depth has colours"),
        ("normal", encoded(np.zeros((32, 32), np.uint8)), "file of normal is grey"),
        ("mask", encoded(np.full((32, 32, 3), (200, 130, 30), np.uint8)), "file of mask has 100% of its pixels"),
    ],
)
def test_files_that_cannot_be_given(model, m, data, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        form.uploaded(m, data, model.architecture)


@pytest.mark.parametrize("m", list(MODALITIES))
def test_brushes_paint_what_the_modality_takes(model, m):
    own = brushes.of(MODALITIES[m], model.architecture.facts)
    assert len(dict(own)) == len(own) >= 4
    rows = np.array([list(bytes.fromhex(color[1:])) for _, color in own], np.uint8)
    picture = np.resize(rows, (SIZE, SIZE, 3))
    request = form.parse(of(**{m: Part(GIVEN, url(picture))}), model.architecture)
    given = request.arguments(model.architecture)["given"][m]
    assert len(np.unique(given.reshape(SIZE * SIZE, -1).round(3), axis=0)) == len(own)


def test_figures_are_escaped_and_large_by_whole_numbers(model):
    request = form.parse(of(draws=2), model.architecture)
    out = model.generate(**request.arguments(model.architecture), progress=lambda _: None)
    made = result(out, request, "a", "b")
    assert "depth uncertainty" in made.looks and figures(made).count("<figure") == len(made.looks)
    assert large(made.looks["rgb"]).shape == (512, 512, 3)
    with zipfile.ZipFile(io.BytesIO(made.archive)) as archive:
        assert {"scene.glb", "again.sh", "again.py", "samples/gallery.html"} <= set(archive.namelist())
    assert made.mesh[:4] == b"glTF"


def test_without_the_library_one_line_says_what_to_install(model_dir, monkeypatch):
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        UsageError, match=r"not installed; ./launch/setup.sh --app, or .* pip install 'mmgen_jax\[app\]', installs it"
    ):
        app.run(str(model_dir), "shapes_tiny", "127.0.0.1", 7860)


def test_models_and_recipes_are_named_as_they_are_in_every_folder(model_dir, tmp_path, monkeypatch):
    assert app.anywhere("shapes-tiny", "shapes_tiny") == ("shapes-tiny", "shapes_tiny")
    (tmp_path / "own.py").touch()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(model_dir)
    assert app.anywhere("run", "own.py:small") == (f"{tmp_path}/run", f"{tmp_path}/own.py:small")
    with pytest.raises(UsageError, match="no recipe or file 'shapes'; allowed: a file, or one of base, "):
        app.anywhere("run", "shapes")


def test_a_place_that_is_taken():
    with app.socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UsageError, match="--host is '127.0.0.1' and --port"):
            app.check_place("127.0.0.1", other.getsockname()[1])
    with pytest.raises(UsageError, match="--host is 'no.such.host.invalid'"):
        app.check_place("no.such.host.invalid", 7860)
