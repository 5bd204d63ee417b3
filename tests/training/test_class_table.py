"""Own classes on a model that has others: rows follow names, new ones start from no class, and it is said."""

import image_trees
import jax
import numpy as np
import pytest
import tiny_model
from etils import epath

from mmgen_jax import settings, train
from mmgen_jax.checkpoints import model_folders, weights
from mmgen_jax.data import tiles
from mmgen_jax.data.trees import builder, folders
from mmgen_jax.data.trees.groups import Reading
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.models import architectures
from mmgen_jax.parallel import sharding
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training import class_table, setup

KINDS = tiny_model.build()[0].facts.class_names
NUMBERS = tuple(map(str, range(8)))


@pytest.mark.parametrize(
    "theirs, ours, rows",
    [
        (KINDS, KINDS, [*range(8), 8]),
        (KINDS, KINDS[::-1], [*range(8)][::-1] + [8]),
        (KINDS, ("castle", KINDS[3]), [8, 3, 8]),
        (KINDS, ("castle", "dragon", "elf"), [8, 8, 8, 8]),
        (KINDS, tuple(f"own {i}" for i in range(8)), [8] * 9),
        (KINDS, tuple(f"own {i}" for i in range(20)), [8] * 21),
        (KINDS, ("0", "1"), [8, 8, 8]),
        (NUMBERS, KINDS, [*range(8), 8]),  # as many: the names of what was only numbered
        (NUMBERS, ("0", "1"), [8, 8, 8]),  # fewer: numbers are no names
        (NUMBERS, NUMBERS, [*range(8), 8]),
    ],
)
def test_rows_follow_names(theirs, ours, rows, capsys):
    architecture, params = tiny_model.build()
    found = class_table.fit(params, architecture.with_classes(theirs), architecture.with_classes(ours))
    table = np.asarray(params["class_embed"]["embedding"])
    np.testing.assert_array_equal(found["class_embed"]["embedding"], table[rows])
    weights.check_params(found, architecture.with_classes(ours), "test")
    others = {name: value for name, value in params.items() if name != "class_embed"}
    jax.tree.map(np.testing.assert_array_equal, others, {name: found[name] for name in others})
    kept = rows != [*range(8), 8]
    assert ("a new class table of" in capsys.readouterr().out) == kept


@pytest.fixture
def own(model_config, model_dir, tmp_path):
    """A config that tunes the tiny model, of eight classes, on own images of three: one it knows, and two new ones."""
    names = (KINDS[3], "castle", "dragon")
    scenes = tiny_model.pixels(24, "train")
    for i in range(24):
        for m in NAMES:
            image_trees.save(tmp_path / "own" / m / names[i % 3] / f"{i}.png", scenes[m][i])
    directories = {m: str(tmp_path / "own" / m) for m in NAMES}
    plan = folders.make_plan(directories, "folders", 0.0, True, Reading(tiny_model.SIZE))
    builder.write(folders.FolderTiles, str(tmp_path / "data"), plan, 1)
    model_config.data.dir = str(tmp_path / "data")
    model_config.train.update({"init_from": str(model_dir), "batch": 8, "steps": 1, "sample_every": 0})
    model_config.optim.update({"warmup_steps": 0, "decay_steps": 0})
    return model_config


def test_own_classes_on_a_trained_model(own, model_dir, tmp_path, capsys):
    names = tuple(sorted((KINDS[3], "castle", "dragon")))
    chosen = settings.parse(own)
    architecture = setup.make_architecture(chosen, tmp_path / "run", setup.open_data(chosen))
    assert architecture.facts.class_names == names == tiles.class_names(own.data.dir) and architecture.null_class == 3
    mesh = sharding.make_mesh()
    training = setup.assemble(chosen, architecture, mesh)
    job = train._job(chosen, epath.Path(tmp_path / "run"), mesh)
    state, _ = setup.restore_or_init(chosen, training, job.start, tmp_path / "run")
    theirs = np.asarray(model_folders.load(model_dir)[1]["class_embed"]["embedding"])
    wanted = theirs[[3 if name == KINDS[3] else 8 for name in names] + [8]]
    for tree in (state.params, state.ema):
        np.testing.assert_array_equal(tree["class_embed"]["embedding"], wanted)

    train.train(own, tmp_path / "run")
    assert "a new class table of 3 classes, 1 of them with the row of the same name" in capsys.readouterr().out
    found, params = model_folders.load(tmp_path / "run")
    assert found.facts.class_names == names and params["class_embed"]["embedding"].shape[0] == 4
    own.train.steps = 2
    train.train(own, tmp_path / "run")  # and it goes on
    assert "a new class table" not in capsys.readouterr().out


def test_a_workdir_keeps_its_classes_and_says_the_way_out(own, model_dir, tmp_path):
    architectures.load(model_dir).save(tmp_path / "run")
    with pytest.raises(UsageError, match="has the 8 classes .*; the data have 3, .* with train.init_from"):
        train.train(own, tmp_path / "run")
