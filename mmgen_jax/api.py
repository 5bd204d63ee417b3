"""The Python interface: load a model, generate samples, look at them.

from mmgen_jax import MMGen

model = MMGen.load("shapes-tiny")
out = model.generate(class_id="torus", n=4, given={"depth": "depth.png"})
out["rgb"]          # uint8 [4, H, W, 3]
out.save("folder")  # PNGs and a gallery
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from mmgen_jax.checkpoints import model_folders
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.sampling import SOLVERS
from mmgen_jax.sampling.given import given_values
from mmgen_jax.sampling.sampler import Options, Sampler
from mmgen_jax.settings import Sample, rules
from mmgen_jax.show.outputs import Outputs
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.errors import UsageError, choice
from mmgen_jax.system.rules import Rule, each, integer, require

_LISTED = Rule(lambda v: v != () and each(integer(0)).allows(v), "a number of samples, or a list of their numbers")


class MMGen:
    """A trained model; `load` makes one."""

    def __init__(self, architecture: Architecture, params: Params):
        self.architecture = architecture
        self._sampler = Sampler(architecture)
        self._params = self._sampler.place(params)
        self._velocity = jax.jit(lambda params, x, t, prompt: architecture.apply(params, x, t, prompt)[0])

    @classmethod
    def load(cls, name: epath.PathLike, step: int | None = None) -> MMGen:
        """Loads a bundled model by name ("shapes-tiny"), a model folder, or a workdir (`step`, default the newest).

        Raises UsageError if there is no such model.
        """
        return cls(*model_folders.load(name, step))

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.architecture.class_names

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.architecture.modalities

    def velocity(self, x: Mapping, t, class_id, task) -> Latents:
        """Computes the raw network: x dict of [B, H, W, C], t [B, M], class_id [B], task [B] -> velocities, float32.

        Column m of t is the time of the m-th key of x; velocities come in the model's order.
        """
        names = tuple(x)
        order = [names.index(m) for m in self.modalities if m in names]
        prompt = Prompt(jnp.asarray(class_id), jnp.asarray(task))
        return self._velocity(self._params, self.architecture.ordered(x), jnp.asarray(t)[:, order], prompt)

    def encode(self, values: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Encodes values of some modalities, as `generate` returns them, to latents [n, h, w, C]."""
        return self._sampler.encode(self._arrays(values))

    def decode(self, latents: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
        """Decodes latents [n, h, w, C] of some modalities to values, as `generate` returns them."""
        return self._values(self._sampler.decode(latents))

    def _arrays(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {m: MODALITIES[m].array(value, self.architecture.facts) for m, value in values.items()}

    def _values(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {m: MODALITIES[m].value(array, self.architecture.facts) for m, array in arrays.items()}

    def generate(
        self,
        class_id: int | str | Sequence[int | str] | AnyArray | None = None,
        n: int | np.integer | Sequence[int] | AnyArray = 1,
        given: Mapping[str, object] | None = None,
        steps: int = 25,
        solver: str = "heun",
        guidance: float = 1.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        given_time: float = 0.005,
        seed: int = 0,
        batch: int = 32,
        progress: Callable[[int], object] | None = None,
    ) -> Outputs:
        """Draws n samples of all modalities; sample i depends on `seed` and i, not on n or `batch`.

        All of them are kept in memory. To make many, ask for some at a time: n=range(32), n=range(32, 64), ...

        Args:
          class_id: index or name of a class, one for all samples or one for each; None means no class.
          n: how many samples, those with the numbers 0 to n - 1; or their numbers.
          given: modality -> a file or array (see `modalities.modality`), one for all samples or one for each.
          steps: number of steps of the solver.
          solver: a name of `mmgen_jax.sampling.SOLVERS`.
          guidance: strength of classifier-free guidance on the class; 1 means none.
          guidance_interval: guidance acts at times t in [low, high].
          given_time: time in [0, 1] at which given modalities are held; at 0 the network sees them clean.
          seed: seed of the noise.
          batch: number of samples computed at once.
          progress: is told after each batch how many samples it had; a meter on stderr if None.

        Returns:
          `Outputs`, in which given modalities are as they were given, resized to the model's size.

        Raises:
          UsageError: an argument is not allowed.
        """
        numbers = _numbers(n)
        _check(
            steps=steps,
            batch=batch,
            seed=seed,
            solver=solver,
            guidance=guidance,
            guidance_interval=guidance_interval,
            given_time=given_time,
        )
        if SOLVERS[solver].needs_score and self.architecture.path != "linear":
            raise UsageError(
                f"solver is {solver!r}, which needs the linear path; the model's is {self.architecture.path}"
            )
        count, (low, high) = len(numbers), guidance_interval
        classes = self._classes(class_id, count)
        conditions = self._conditions({} if given is None else given, count)
        options = Options(solver, int(steps), guidance, (float(low), float(high)), given_time, int(seed), int(batch))
        shown = {m: np.broadcast_to(x, (count, *x.shape[1:])) for m, x in self._arrays(conditions).items()}
        made = self._sampler(
            self._params, classes, shown, options, numbers=numbers, finish=self._values, progress=progress
        )
        values = {m: np.broadcast_to(x, (count, *x.shape[1:])) for m, x in conditions.items()} | made
        guided = guidance != 1 and bool((classes != self.architecture.null_class).any())
        names = [self._class_name(i) for i in classes.tolist()]
        return Outputs(
            {m: values[m] for m in self.modalities},
            tuple(conditions),
            self.architecture.facts,
            caption=_caption(names, tuple(conditions), seed, solver, steps, guidance if guided else 1),
            rows=[f"{i} {name}" if len(set(names)) > 1 else f"{i}" for i, name in zip(numbers, names, strict=True)],
        )

    def _class_name(self, index: int) -> str:
        return "no class" if index == self.architecture.null_class else self.class_names[index]

    def _classes(self, class_id, n: int) -> np.ndarray:
        """Indices int32 [n] of classes, from one class for all samples or one for each."""
        several = isinstance(class_id, Sequence | np.ndarray | jax.Array) and not isinstance(class_id, str)
        several = several and np.ndim(np.asarray(class_id, object)) > 0
        if several and len(class_id) != n:
            raise UsageError(f"class_id has {len(class_id)} entries; allowed: one, or n = {n}")
        classes = class_id if several else [class_id] * n
        return np.array([self.architecture.class_index(c) for c in classes], np.int32)

    def _conditions(self, given: Mapping[str, object], n: int) -> dict[str, np.ndarray]:
        """Values [1 or n, ...] of what is given, in the model's order."""
        a = self.architecture
        if not isinstance(given, Mapping):
            raise UsageError(f"given is of type {type(given).__name__}; allowed: a dict of modality -> file or array")
        for m in given:
            choice("given modality", m, a.modalities)
        if len(given) == len(a.modalities):
            raise UsageError(f"given has all of {', '.join(given)}; at least one must be left to generate")
        return given_values(given, n, a)


def _plain(value: object) -> object:
    """A number of NumPy or JAX as one of Python, an array or list as a tuple; other values as they are."""
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        value = np.asarray(value).tolist()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _numbers(n: Any) -> np.ndarray:
    """Numbers int [n] of the samples: 0, 1, ... of a count, or those that are listed. Raises UsageError."""
    listed = tuple(n) if isinstance(n, range) else _plain(n)
    if not isinstance(listed, tuple):
        _check(n=n)
        return np.arange(int(n))
    require("n", listed, _LISTED)
    return np.array(listed)


def _check(**arguments: object) -> None:
    """Raises UsageError for the first argument that is not what the setting of the same name in `sample` may be."""
    allowed = rules(Sample())
    for name, value in arguments.items():
        require(name, _plain(value), allowed[name])


def _caption(names: Sequence[str], given: Sequence[str], seed: int, solver: str, steps: int, guidance: float) -> str:
    """Text that says how samples were made, as in "given depth; class torus; seed 0; heun, 25 steps"."""
    task = f"given {' + '.join(given)}" if given else "all modalities together"
    classes = f"class {names[0]}" if len(set(names)) == 1 else "several classes"
    classes = classes.replace("class no class", "no class")
    guided = f"; guidance {guidance:g}" if guidance != 1 else ""
    return f"{task}; {classes}; seed {seed}; {solver}, {steps} steps{guided}"
