"""What does not fit the batch or the memory is refused when the parts of a run are made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from mmgen_jax import settings
from mmgen_jax.data.train_data import TrainData
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.parallel import sharding
from mmgen_jax.settings import Settings
from mmgen_jax.system.errors import UsageError
from mmgen_jax.telemetry import memory
from mmgen_jax.training import setup
from mmgen_jax.training.state import TrainState


@pytest.mark.parametrize("batch, share", [(8, 1e-9), (8, 0.05), (1, 0.5)])
def test_a_row_of_the_mix_that_gets_no_sample_is_named(batch, share):
    mix = ((share, "rgb", 0.0, "all"), (1 - share, "none", 0.0, "all"))
    chosen = Settings().changed(train={"batch": batch}, objective={"mix": mix})
    with pytest.raises(UsageError, match=rf"of objective.mix gets none of the train.batch = {batch} samples"):
        setup.make_objective(chosen)


def test_a_share_of_zero_leaves_a_row_out():
    mix = ((0.0, "rgb", 0.0, "all"), (1.0, "none", 0.0, "all"))
    setup.make_objective(Settings().changed(train={"batch": 8}, objective={"mix": mix}))


def abstract(count: int) -> TrainState:
    where = SingleDeviceSharding(jax.devices()[0])
    params = {"w": jax.ShapeDtypeStruct((count,), jnp.float32, sharding=where)}
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32, sharding=where), params, params, (params, params))


def test_a_model_larger_than_the_memory_is_refused_before_it_is_made():
    there = memory.of_device()
    setup._check_memory(abstract(there // 20))  # parameters, average and two moments take 16 bytes each
    with pytest.raises(UsageError, match=r"^a model of .* M parameters needs .* GB on each device .* make model.depth"):
        setup._check_memory(abstract(there // 15))


@pytest.mark.parametrize(
    "batch, said", [(8, ""), (16, "train.batch is 16, more than the 8 samples of data.train_split")]
)
def test_a_batch_larger_than_the_data_set_is_told(capsys, batch, said):
    data = TrainData([{"x": np.int32(i)} for i in range(8)], (), Facts(), "")
    chosen = Settings().changed(train={"batch": batch})
    setup.open_batches(chosen, data, sharding.make_mesh(), {"samples": 0})[0].close()
    told = capsys.readouterr()
    assert (said in told.out + told.err) if said else (told.out + told.err == "")


def test_large_tiles_are_fitted_on_fewer_of_them(small_config, monkeypatch):
    chosen = settings.parse(small_config())
    side = chosen.data.image_size
    whole = setup.spread_images(chosen, 5)
    assert {x.shape[:3] for x in whole.values()} == {(5, side, side)}
    monkeypatch.setattr(setup, "SPREAD_PIXELS", 3 * side**2)
    for m, x in setup.spread_images(chosen, 5).items():
        np.testing.assert_array_equal(x[[0, 2]], whole[m][[0, 4]])
        assert len(x) == 3
    monkeypatch.setattr(setup, "SPREAD_PIXELS", side)
    assert {len(x) for x in setup.spread_images(chosen, 5).values()} == {1}
