"""Describes everything that is needed to rebuild a model around its weights, and stores it as `model.json`."""

from __future__ import annotations

import dataclasses
import json
import operator
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, SupportsIndex

import jax
import numpy as np
from etils import epath
from flax import nnx

from mmgen_jax.diffusion.flow import LINEAR, PATHS
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.frozen import abstract
from mmgen_jax.frozen.abstract import Params
from mmgen_jax.frozen.autoencoders import arrays_file, registry
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.modalities import facts
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models.mmdit import MMDiT, MMDiTConfig
from mmgen_jax.parallel.placement import Placement, single
from mmgen_jax.system import files, reading, sealed
from mmgen_jax.system.errors import UsageError, shown
from mmgen_jax.system.rules import POSITIVE, integer, one_of, require, some_of

FILE = "model.json"
# These settings change how a network computes, not what it computes. Weights fit any of their values.
COMPUTE = ("model.dtype", "model.remat", "model.attention", "model.unroll")

# What the data say, and what was measured on the weights: neither changes what fits them.
NOTES = ("depth_range", "calibration")


@dataclass(frozen=True)
class Architecture:
    """A model without its weights.

    Attributes:
      model: the transformer.
      autoencoder: encodes images to latents, and decodes them.
      path: name of the path between data and noise whose velocities the model predicts.
      image_size: height and width of images, in pixels.
      facts: what the data set that the model was trained on says of itself, except for its field of view. The class
        names do not include the null class.
      calibration: factors of the uncertainty of some modalities, as `studies.calibration` measures them.
    """

    model: MMDiTConfig
    autoencoder: Autoencoder
    path: str
    image_size: int
    facts: Facts
    calibration: Mapping[str, float] = field(default_factory=dict)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.model.modalities)

    def with_classes(self, class_names: tuple[str, ...]) -> Architecture:
        """With other classes, of any number; `class_table.fit` makes the weights fit them."""
        model = dataclasses.replace(self.model, num_classes=len(class_names))
        return dataclasses.replace(self, model=model, facts=dataclasses.replace(self.facts, class_names=class_names))

    @property
    def null_class(self) -> int:
        return self.model.num_classes

    @property
    def latent_size(self) -> int:
        return self.image_size // self.autoencoder.factor

    @property
    def sample_shapes(self) -> OrderedDict[str, tuple[int, ...]]:
        """Shape [h, w, C] of each modality's latents of one sample, in the model's order."""
        return OrderedDict((m, (self.latent_size, self.latent_size, c)) for m, c in self.model.modalities)

    def latent_shapes(self, batch: int) -> OrderedDict[str, tuple[int, ...]]:
        """Shape [B, h, w, C] of each modality's latents, in the model's order."""
        return OrderedDict((m, (batch, *shape)) for m, shape in self.sample_shapes.items())

    def ordered(self, arrays: Mapping[str, Any]) -> OrderedDict[str, Any]:
        """The arrays of some modalities, sorted into the model's order."""
        return OrderedDict((m, arrays[m]) for m in self.modalities if m in arrays)

    def to_json(self) -> dict:
        """The contents of `model.json`, as plain lists, numbers and strings."""
        return {
            "model": json.loads(json.dumps(dataclasses.asdict(self.model))),
            "autoencoder": self.autoencoder.spec,
            "path": self.path,
            "image_size": self.image_size,
            **self.facts.to_json(),
            "calibration": dict(self.calibration),
        }

    def save(self, workdir: epath.PathLike) -> None:
        """Writes `model.json` and, if the autoencoder has arrays, `autoencoder.safetensors`, with their checksums."""
        with sealed.sealing(workdir, (FILE, arrays_file.FILE)):
            arrays_file.save_arrays(workdir, self.autoencoder)
            files.write(epath.Path(workdir) / FILE, (json.dumps(self.to_json(), indent=1) + "\n").encode())

    def init(self, key: jax.Array) -> Params:
        """Makes fresh float32 parameters; works under jit."""
        return nnx.to_pure_dict(nnx.split(MMDiT(self.model, rngs=nnx.Rngs(key)))[1])

    def apply(
        self,
        params: Params,
        x: Latents,
        t: jax.Array,
        prompt: Prompt,
        placement: Placement | None = None,
        r: jax.Array | None = None,
        *,
        forward: bool = False,
    ) -> tuple[Latents, jax.Array | None]:
        """Computes the network as a pure function of its parameters; see `MMDiT.__call__`.

        With `forward` (and no placement) derivatives by x and t in forward mode can be taken everywhere.
        """
        network = nnx.merge(abstract.graphdef(MMDiT, self.model), params)
        return network(x, t, prompt, placement or single(forward=forward), r)

    def class_index(self, name: SupportsIndex | str | None) -> int:
        """Index of a class: a number is an index, a text a name or else an index, and None or "" the null class.

        Raises UsageError for others.
        """
        if name is None or name == "":
            return self.null_class
        known = self.facts.class_names
        if isinstance(name, str) and name in known:
            return known.index(name)
        try:
            index = int(name) if isinstance(name, str) else operator.index(name)
        except (ValueError, TypeError):
            index = -1
        index = -1 if isinstance(name, bool) else index
        if not 0 <= index < len(known):
            names = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
            raise UsageError(
                f"class is {shown(name)}; allowed: 0 to {len(known) - 1}, or a name ({names}), or nothing for no class"
            )
        return index


def _freeze(value):
    return tuple(_freeze(v) for v in value) if isinstance(value, list) else value


def load(workdir: epath.PathLike) -> Architecture:
    """Reads what `Architecture.save` wrote.

    Raises UsageError if the folder holds no model, or one that is damaged or has values that make no sense.
    """
    path = epath.Path(workdir) / FILE
    if not sealed.expects(path):
        raise UsageError(f"{workdir} holds no model: {FILE} is missing")
    stored = reading.parse_json(sealed.read(path), path)
    arrays = arrays_file.load_arrays(workdir)
    facts.check(stored, path)
    try:
        found = _from_json(stored, arrays)
        _check(found)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{workdir} holds no model: {FILE} or {arrays_file.FILE} is damaged ({error!r})") from error
    return found


def _from_json(stored: Any, arrays: dict[str, np.ndarray]) -> Architecture:
    """Makes an architecture of what `Architecture.to_json` returned and of the autoencoder's arrays."""
    model = MMDiTConfig(**{k: _freeze(v) for k, v in stored["model"].items()})
    require("model.modalities", model.names, some_of(*MODALITIES))
    return Architecture(
        model=model,
        autoencoder=registry.rebuild(stored["autoencoder"], model.names, arrays),
        path=stored.get("path", "linear"),
        image_size=stored["image_size"],
        facts=Facts.from_json(stored),
        calibration=dict(stored.get("calibration", {})),
    )


def _check(found: Architecture) -> None:
    """Raises UsageError unless the parts of a stored architecture fit together, as those that settings make do."""
    model, autoencoder = found.model, found.autoencoder
    require("path", found.path, one_of(*PATHS))
    require("image_size", found.image_size, integer(1))
    side = autoencoder.factor * model.patch
    if found.image_size % side:
        raise UsageError(f"image_size is {found.image_size}; the network needs a multiple of {side}")
    if dict(model.modalities) != autoencoder.channels:
        raise UsageError(f"model.modalities is {dict(model.modalities)}; the autoencoder makes {autoencoder.channels}")
    for m, factor in found.calibration.items():
        require("modality of calibration", m, one_of(*found.modalities))
        require(f"calibration.{m}", factor, POSITIVE)
    if (count := len(found.facts.class_names)) != model.num_classes:
        raise UsageError(f"model.num_classes is {model.num_classes}; there are {count} class_names")
    if model.data_std is not None and PATHS[found.path] is not LINEAR:
        raise UsageError(f"path is {found.path!r}; with model.data_std it must be linear")


def difference(wanted: Architecture, found: Architecture, where: str) -> str | None:
    """The first entry in which two architectures differ, as "name is A, WHERE has B"; None if they agree."""

    def flat(value: dict, prefix: str = "") -> dict:
        entries: dict[str, object] = {}
        for key, item in value.items():
            entries |= flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {prefix + key: item}
        return entries

    a, b = flat(wanted.to_json()), flat(found.to_json())
    for key in a:
        if key in COMPUTE or key.partition(".")[0] in NOTES:
            continue
        if key == "model.data_std":  # follows from the fitted autoencoder
            if (a[key] is None) != (b.get(key) is None):
                return f"model.precondition is {a[key] is not None}, {where} has {b.get(key) is not None}"
        elif a[key] != b.get(key):
            return f"{key} is {a[key]!r}, {where} has {b.get(key)!r}"
    return None
