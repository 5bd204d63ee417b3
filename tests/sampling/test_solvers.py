import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from joint_gaussian import COVARIANCE, MEAN, ORDER, conditional, normal, oracle, pack, unpack
from scipy.stats import norm

from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.sampling import SOLVERS, bind, classifier_free, sample, shifted_times, uniform_times

# ---- the official samplers ----


@jax.jit
def network(x, t, prompt):
    return golden_arrays.model()(x, t, prompt)


def setting(task):
    z = golden_arrays.arrays()
    return Prompt(jnp.asarray(z["sample/class"]), jnp.full(3, task)), golden_arrays.split(z["sample/noise"])


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_ode_solvers_reproduce_the_official_ones(solver):
    prompt, noise = setting(0)
    velocity_fn = bind(network, prompt)
    out = jax.jit(lambda noise: sample(velocity_fn, noise, solver=solver, steps=6))(noise)
    assert golden_arrays.largest_difference(out, golden_arrays.arrays()[f"sample/{solver}_cfg1"]) < 1e-4


def test_guidance_in_an_interval_reproduces_the_official_one():
    prompt, noise = setting(0)
    out = sample(classifier_free(network, prompt, 10, 2.0, (0.1, 0.8)), noise, steps=6)
    assert golden_arrays.largest_difference(out, golden_arrays.arrays()["sample/euler_cfg2"]) < 1e-4


@pytest.mark.parametrize("case, held, scale", [("em_joint", None, 1.0), ("em_cond0", 0, 1.0), ("em_cond1_cfg", 1, 1.8)])
def test_euler_maruyama_reproduces_the_official_one(case, held, scale):
    z = {name: golden_arrays.arrays()[f"sample/{case}/{name}"] for name in ("latents", "step_noise", "out")}
    prompt, _ = setting(0 if held is None else held + 1)
    noise, given = golden_arrays.split(z["latents"]), {}
    if held is not None:
        name = golden_arrays.NAMES[held]
        clean = np.moveaxis(golden_arrays.arrays()[f"sample/{case}/condition"], 1, -1)
        # The official start holds the condition with its noise mixed in already.
        given[name], noise[name] = jnp.asarray(clean), (noise[name] - 0.995 * clean) / 0.005
    velocity_fn = classifier_free(network, prompt, 10, scale)
    noises = golden_arrays.split(z["step_noise"])
    out = sample(velocity_fn, noise, solver="euler_maruyama", steps=6, given=given, step_noise=noises)
    for name, value in golden_arrays.split(z["out"]).items():
        if name in given:
            np.testing.assert_array_equal(out[name], given[name])
        else:
            np.testing.assert_allclose(out[name], value, atol=1e-4, err_msg=name)


# ---- a Gaussian, whose velocity is known exactly: `joint_gaussian` ----


@pytest.mark.parametrize(
    "solver, steps, tolerance",
    [
        ("euler", 400, 0.02),
        ("heun", 60, 0.01),
        ("midpoint", 60, 0.01),
        ("dpm_solver_2m", 60, 0.01),
        ("unipc", 60, 0.01),
        ("euler_maruyama", 400, 0.05),
        *[("flow_map", steps, 1e-3) for steps in (1, 2, 4)],
    ],
)
def test_moments_of_joint_samples(solver, steps, tolerance):
    run = jax.jit(lambda noise: sample(oracle, noise, jax.random.key(3), solver, steps))
    x = np.asarray(pack(run(normal(20_000))))
    np.testing.assert_allclose(x.mean(0), MEAN, atol=tolerance)
    np.testing.assert_allclose(np.cov(x.T), COVARIANCE, atol=tolerance)


@pytest.mark.parametrize("names", [("a",), ("b",), ("b", "c")])
@pytest.mark.parametrize(
    "solver, steps, tolerance",
    [("heun", 60, 0.01), ("euler_maruyama", 400, 0.05), ("flow_map", 1, 1e-3), ("flow_map", 3, 1e-3)],
)
def test_moments_of_conditional_samples(names, solver, steps, tolerance):
    values = {"a": [0.4], "b": [1.1, -0.5], "c": [0.2]}
    given = {name: jnp.tile(jnp.array(values[name]), (20_000, 1, 1, 1)) for name in names}
    run = jax.jit(lambda z, given: sample(oracle, z, jax.random.key(3), solver, steps, given=given, given_time=0.0))
    out = run(normal(20_000), given)
    for name in names:
        np.testing.assert_array_equal(out[name], given[name])
    mean, covariance, free = conditional({name: values[name] for name in names})
    x = np.asarray(pack(out))[:, free]
    np.testing.assert_allclose(x.mean(0), mean, atol=tolerance)
    np.testing.assert_allclose(np.cov(x.T).reshape(covariance.shape), covariance, atol=tolerance)


DETERMINISTIC = [name for name, solver in SOLVERS.items() if not solver.stochastic and not solver.averages]
ORDERS = {"euler": 1, "heun": 2, "midpoint": 2, "dpm_solver_2m": 2, "unipc": 3}
MEANS, VARIANCES, SHARES = np.array([-1.0, 1.2]), np.array([0.09, 0.25]), np.array([0.4, 0.6])


def mixture(x, t):
    """E[noise - x0 | x_t] of a scalar mixture of two Gaussians. (On one Gaussian midpoint is of order 3, by chance.)"""
    (name, value), t = next(iter(x.items())), t[0, 0]
    offset, variance = value - (1 - t) * MEANS, (1 - t) ** 2 * VARIANCES + t**2
    share = jax.nn.softmax(jnp.log(SHARES / jnp.sqrt(variance)) - offset**2 / (2 * variance), -1)
    velocity = -MEANS + (t - (1 - t) * VARIANCES) / variance * offset
    return {name: (share * velocity).sum(-1, keepdims=True)}


def transported(z, start, end):
    """Where the exact flow leads points z from time start to time end: on a line it keeps their quantiles."""

    def quantile(x, t):
        return (SHARES * norm.cdf(x[:, None], (1 - t) * MEANS, np.hypot((1 - t) * VARIANCES**0.5, t))).sum(1)

    low, high, wanted = np.full(len(z), -9.0), np.full(len(z), 9.0), quantile(z, start)
    for _ in range(60):
        middle = (low + high) / 2
        below = quantile(middle, end) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return middle


def equal_steps_of_log_snr(steps):
    """Times [steps + 1] from 0.98 to 0.02, which multistep solvers are made for."""
    return jax.nn.sigmoid(jnp.linspace(1, -1, steps + 1) * np.log(0.98 / 0.02))


@pytest.mark.parametrize(
    "solver, grid",
    [(solver, equal_steps_of_log_snr) for solver in DETERMINISTIC]
    + [(solver, uniform_times) for solver in ("euler", "heun", "midpoint")],
)
def test_order_of_convergence(solver, grid):
    z, steps, errors = np.linspace(-2.5, 2.5, 40), (24, 48, 96, 192), []
    run = jax.jit(lambda noise, times: sample(mixture, noise, solver=solver, times=times)["z"].ravel())
    for n in steps:
        times = grid(n)
        exact = transported(z, float(times[0]), float(times[-1]))
        out = run({"z": jnp.asarray(z, jnp.float32)[:, None, None, None]}, times)
        errors.append(np.sqrt(np.square(out - exact).mean()))
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert abs(slope - ORDERS[solver]) < 0.25, (slope, errors)


def ahead(steps):
    """Times [steps + 1, 3] of b, a and c: b waits at first, c arrives early, and a goes quadratically."""
    u = jnp.linspace(0, 1, steps + 1)
    return jnp.stack([1 - jnp.clip(1.5 * u - 0.5, 0), (1 - u) ** 2, 1 - jnp.clip(1.5 * u, None, 1)], 1)


@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_solvers_agree_on_times_of_each_modality(solver):
    """All lead to the same end of the same flow, although modalities wait at t = 1 and t = 0, where log-SNR is not."""
    noise = normal(64)
    run = jax.jit(
        lambda noise, times, solver: pack(sample(oracle, noise, solver=solver, times=times)), static_argnums=2
    )
    exact = run(noise, ahead(1536), "midpoint")
    errors = [float(jnp.abs(run(noise, ahead(n), solver) - exact).max()) for n in (24, 96)]
    assert np.isfinite(errors).all() and errors[1] < errors[0] / 3 and errors[1] < 0.05, errors


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_modality_whose_time_does_not_move_stays_as_it_is(solver):
    noise = normal(4)
    for t in (1.0, 0.5, 0.0):
        times = jnp.stack([jnp.linspace(1, 0, 5), jnp.full(5, t), jnp.linspace(1, 0, 5)], 1)
        out = sample(oracle, noise, jax.random.key(0), solver, times=times)
        np.testing.assert_allclose(out["a"], noise["a"], atol=1e-6)
        assert jnp.isfinite(pack(out)).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_evaluate_the_velocity_as_often_as_they_say(solver):
    calls = []

    def counted(x, t, *r):
        jax.debug.callback(lambda: calls.append(1))
        return oracle(x, t, *r)

    for steps in (1, 2, 5):
        calls.clear()
        sample(counted, normal(2), jax.random.key(0), solver, steps)
        jax.effects_barrier()
        assert len(calls) == SOLVERS[solver].evaluations(steps)


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_leave_given_and_ignored_modalities_alone(solver):
    seen = []

    def spy(x, t, *r):
        for time in (t, *r):
            jax.debug.callback(lambda x, t: seen.append((np.array(x["a"]), np.array(x["b"]), np.array(t))), x, time)
        return oracle(x, t, *r)

    noise, given = normal(4), {"a": jnp.full((4, 1, 1, 1), 0.3)}
    out = sample(spy, noise, jax.random.key(0), solver, 4, given=given, given_time=0.0, ignored=("b",))
    jax.effects_barrier()
    assert tuple(out) == ("a", "c") and (out["a"] == given["a"]).all() and jnp.isfinite(out["c"]).all()
    for a, b, t in seen:
        assert (a == given["a"]).all() and (b == noise["b"]).all() and (t[:, 0] == 1).all() and (t[:, 1] == 0).all()


@pytest.mark.parametrize("solver, scheduler", [("dpm_solver_2m", "DPMSolver"), ("unipc", "UniPC")])
def test_multistep_solvers_go_the_way_of_independent_ones(solver, scheduler):
    """diffusers' schedulers, which take flows whose steps do not begin at t = 1, with the oracle's own velocity."""
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    for shift in (1.0, 3.0):
        theirs = getattr(diffusers, f"{scheduler}MultistepScheduler")(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, final_sigmas_type="zero"
        )
        theirs.set_timesteps(8)
        times = jnp.asarray(theirs.sigmas.numpy())
        flat = np.array(pack(normal(16)))
        ours = pack(sample(oracle, unpack(jnp.asarray(flat)), solver=solver, times=times))
        x = torch.from_numpy(flat)
        for step, time in enumerate(theirs.timesteps):
            velocity = oracle(unpack(jnp.asarray(x.numpy())), jnp.full((16, 3), times[step]))
            x = theirs.step(torch.from_numpy(np.array(pack(velocity))), time, x).prev_sample
        np.testing.assert_allclose(ours, x.numpy(), atol=1e-4)


def test_shifted_times():
    np.testing.assert_allclose(shifted_times(4, 1.0), uniform_times(4))
    np.testing.assert_allclose(shifted_times(4, 3.0), [1, 0.9, 0.75, 0.5, 0], rtol=1e-6)
    for shift in (0.3, 1.15, 3.1, 7.0):
        times = shifted_times(9, shift)
        assert times[0] == 1 and times[-1] == 0 and (jnp.diff(times) < 0).all()
    for shift in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"shift={shift}: must be a finite number above 0"):
            shifted_times(4, shift)


# ---- the contract ----


def test_order_of_columns_is_the_order_of_keys_with_and_without_jit():
    def check(x, t):
        return {name: jnp.broadcast_to(t[:, m, None, None, None], x[name].shape) for m, name in enumerate(x)}

    noise = normal(4)
    times = jnp.stack([jnp.linspace(1, 0, 5), jnp.linspace(1, 0, 5) ** 2, jnp.linspace(1, 0, 5) ** 3], 1)
    out = sample(check, noise, times=times)
    assert tuple(out) == ORDER
    for m, name in enumerate(ORDER):
        step = np.sum(times[:-1, m] * np.diff(times[:, m]))
        np.testing.assert_allclose(out[name] - noise[name], step, atol=1e-6)
    jitted = jax.jit(lambda noise: sample(oracle, noise, steps=5))(noise)
    for name, value in sample(oracle, noise, steps=5).items():
        np.testing.assert_allclose(jitted[name], value, atol=1e-5)


def test_given_is_mixed_with_its_noise_and_returned_unchanged():
    seen = []

    def spy(x, t):
        jax.debug.callback(lambda a, t: seen.append((np.array(a), np.array(t))), x["a"], t)
        return {name: jnp.zeros_like(value) for name, value in x.items()}

    noise = normal(4)
    given = {"a": jnp.full((4, 1, 1, 1), 1 / 3, jnp.bfloat16)}
    for time in (0.005, 0.0):
        seen.clear()
        out = sample(spy, noise, solver="heun", steps=3, given=given, given_time=time)
        jax.effects_barrier()
        assert out["a"].dtype == jnp.bfloat16 and (out["a"] == given["a"]).all()
        expected = time * noise["a"] + (1 - time) * given["a"].astype(jnp.float32)
        assert len(seen) == 5
        for value, t in seen:
            np.testing.assert_array_equal(value, expected)
            np.testing.assert_allclose(t[:, 1], time)


@pytest.mark.parametrize("solver", SOLVERS)
def test_same_key_same_samples(solver):
    noise = normal(8)
    first, second = (sample(oracle, noise, jax.random.key(5), solver, steps=4) for _ in range(2))
    for name in noise:
        np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("solver", ["euler", "heun", "dpm_solver_2m", "unipc"])
def test_one_step_from_pure_noise_is_the_mean(solver):
    one = sample(oracle, normal(8), solver=solver, steps=1)
    np.testing.assert_allclose(pack(one), np.tile(MEAN, (8, 1)), atol=1e-4)


def test_errors():
    noise = normal(2)
    with pytest.raises(
        ValueError, match="solver='rk4': must be one of euler, heun, midpoint, dpm_solver_2m, unipc, euler_maruyama"
    ):
        sample(oracle, noise, solver="rk4")
    with pytest.raises(ValueError, match="key must be"):
        sample(oracle, noise, solver="euler_maruyama")
    with pytest.raises(ValueError, match="given has 'd'"):
        sample(oracle, noise, given={"d": noise["a"]})
    with pytest.raises(ValueError, match="has shape"):
        sample(oracle, noise, given={"b": noise["a"]})
    with pytest.raises(ValueError, match="left to sample"):
        sample(oracle, noise, given=noise)
    with pytest.raises(ValueError, match="steps=0"):
        sample(oracle, noise, steps=0)
    with pytest.raises(ValueError, match="times has shape"):
        sample(oracle, noise, times=jnp.ones((3, 2)))


# ---- guidance ----


def test_guidance_interval_and_interleaving():
    def network(x, t, prompt):
        assert len(prompt.class_id) == len(prompt.task) == len(t)
        value = prompt.class_id[:, None, None, None] * 1.0
        return {name: jnp.broadcast_to(value, z.shape) for name, z in x.items()}

    x = normal(3)
    prompt = Prompt(jnp.array([1, 2, 3]), jnp.zeros(3, int))
    velocity_fn = classifier_free(network, prompt, 0, 2.0, (0.3, 0.7))
    for time, factor in ((0.1, 1), (0.3, 2), (0.5, 2), (0.9, 1)):
        out = velocity_fn(x, jnp.full((3, 3), jnp.float32(time)))
        for value in out.values():
            np.testing.assert_allclose(value[:, 0, 0, 0], factor * np.array([1, 2, 3]))
    t = jnp.tile(jnp.array([0.5, 0.1, 0.9]), (3, 1))  # a modality of its own time is guided by that
    out = velocity_fn(x, t)
    for name, factor in zip(ORDER, (2, 1, 1), strict=True):
        np.testing.assert_allclose(out[name][:, 0, 0, 0], factor * np.array([1, 2, 3]))


@pytest.mark.parametrize("held_outside", [True, False])
def test_second_branch_is_skipped_outside_the_interval(held_outside):
    batches = []

    def network(x, t, prompt):
        jax.debug.callback(lambda n: batches.append(int(n)), len(t))
        return x

    prompt = Prompt(jnp.zeros(3, int), jnp.zeros(3, int))
    velocity_fn = classifier_free(network, prompt, 1, 2.0, (0.0, 0.5), given=["a"] if held_outside else [])
    velocity_fn(normal(3), jnp.tile(jnp.array([0.9, 0.0, 0.9]), (3, 1)))
    jax.effects_barrier()
    assert batches == [3 if held_outside else 6]


def test_both_branches_of_guidance_have_the_task_and_one_has_the_null_class():
    """Leaves of a prompt are interleaved like samples: neighbours belong to one."""
    seen = {}

    def network(x, t, prompt):
        seen.update(class_id=prompt.class_id, task=prompt.task)
        return x

    prompt = Prompt(jnp.array([1, 2, 3]), jnp.array([4, 0, 2]))
    classifier_free(network, prompt, 9, 2.0)(normal(3), jnp.zeros((3, 3)))
    np.testing.assert_array_equal(seen["class_id"], [1, 9, 2, 9, 3, 9])
    np.testing.assert_array_equal(seen["task"], [4, 4, 0, 0, 2, 2])


def test_the_order_of_modalities_survives_whatever_jax_does_to_a_sample():
    """Scans, conditionals and jit keep the order of an OrderedDict, so that each time finds its own modality."""
    seen = []

    def network(x, t, prompt, *r):
        seen.append(tuple(x))
        return {name: jnp.zeros_like(value) for name, value in x.items()}, None

    prompt = Prompt(jnp.zeros(4, int), jnp.zeros(4, int))
    for solver in SOLVERS:
        guided = () if SOLVERS[solver].averages else (classifier_free(network, prompt, 1, 2.0, (0.2, 0.7)),)
        for field in (bind(network, prompt), *guided):
            run = jax.jit(lambda noise, field=field, solver=solver: sample(field, noise, jax.random.key(0), solver, 3))
            assert tuple(run(normal(4))) == ORDER
    assert set(seen) == {ORDER}


def test_a_plain_dict_is_taken_in_its_own_order():
    def check(x, t):
        assert tuple(x) == ORDER
        return {name: jnp.zeros_like(value) for name, value in reversed(x.items())}

    assert tuple(sample(check, dict(normal(4)), solver="heun", steps=2)) == ORDER
