"""From what the page's form says to a request, and to the command line and the Python that make the same.

Nothing here knows the browser's library. Whatever comes in may have been written by anybody: names are compared with
those that there are, numbers with their limits, and pictures are decoded from bytes; no text becomes a path.
"""

from __future__ import annotations

import base64
import binascii
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmgen_jax.modalities.decoding import Decoded
from mmgen_jax.modalities.files import Source, decoded
from mmgen_jax.modalities.pixels import to_pixels
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.sampling.solvers import SOLVERS
from mmgen_jax.show.pictures import png
from mmgen_jax.system.errors import UsageError, choice
from mmgen_jax.system.rules import integer, number, require

GIVEN, MADE, IGNORED = "given", "generate", "ignore"
ROLES = (MADE, GIVEN, IGNORED)
NO_CLASS = "no class"
MOST_STEPS, MOST_DRAWS, MOST_GUIDANCE, STRENGTHS = 100, 16, 20, (-2, 4)  # that one browser may ask for
_NUMBERS = {
    "steps": integer(1, MOST_STEPS),
    "guidance": number(0, MOST_GUIDANCE),
    "seed": integer(0),
    "draws": integer(1, MOST_DRAWS),
}
MOST_BYTES, MOST_PIXELS = 20 * 2**20, 2**24  # of a file that is uploaded
_START = "data:image/png;base64,"
_AGAIN = "out/again"  # where the command and the Python write


@dataclass(frozen=True)
class Part:
    """What the form says of one modality.

    Attributes:
      role: one of `ROLES`.
      picture: what is painted, a PNG of the model's size as the text of a data URL, or "".
      region: the same of white where the picture is made anew and black where it is kept; "" keeps all of it.
      strength: weight of what is given.
    """

    role: str = MADE
    picture: str = ""
    region: str = ""
    strength: float = 1.0


@dataclass(frozen=True)
class Form:
    """All that the form says; nothing of it is checked yet."""

    parts: Mapping[str, Part]
    class_name: str = NO_CLASS
    solver: str = "euler"
    steps: int = 10
    guidance: float = 1.0
    seed: int = 0
    draws: int = 1


@dataclass(frozen=True)
class Request:
    """A form that was checked.

    Attributes:
      options: arguments of `MMGen.generate` that are texts and numbers, of those that are not at their defaults.
      given: modality -> image, uint8 [H, W] or [H, W, 3] of the model's size, as a file of it has.
      keep: modality -> bool [H, W], the pixels that are known.
    """

    options: Mapping[str, Any]
    given: Mapping[str, np.ndarray] = field(default_factory=dict)
    keep: Mapping[str, np.ndarray] = field(default_factory=dict)

    def arguments(self, architecture: Architecture) -> dict[str, Any]:
        """Arguments of `MMGen.generate`."""
        given = {m: _value(m, Decoded(pixels), architecture) for m, pixels in self.given.items()}
        return (
            dict(self.options) | ({"given": given} if given else {}) | ({"keep": dict(self.keep)} if self.keep else {})
        )

    def files(self) -> dict[str, bytes]:
        """Names and contents of the files that `command` and `snippet` read."""
        kept = {m: np.where(pixels, 255, 0).astype(np.uint8) for m, pixels in self.keep.items()}
        return {
            _path(role, m): png(pixels)
            for role, images in (("given", self.given), ("keep", kept))
            for m, pixels in images.items()
        }

    def command(self, workdir: str, config: str) -> str:
        """The command line that makes the same, from a folder in which the files are."""
        settings: dict[str, object] = {"n": 1}
        for name, value in self.options.items():
            if isinstance(value, dict):
                settings |= {f"{name}.{m}": part for m, part in value.items()}
            else:
                settings[name] = "+".join(value) if isinstance(value, tuple) else value
        settings |= {f"given.{m}": _path("given", m) for m in self.given}
        settings |= {f"keep.{m}": _path("keep", m) for m in self.keep}
        words = [f"--config.sample.{name}={value}" for name, value in settings.items()]
        start = ["python", "-m", "mmgen_jax.sample", f"--config={config}", f"--workdir={workdir}"]
        return shlex.join([*start, *words, f"--out={_AGAIN}"])

    def snippet(self, workdir: str) -> str:
        """The Python that makes the same, from a folder in which the files are."""
        given = {m: _path("given", m) for m in self.given}
        keep = {m: _path("keep", m) for m in self.keep}
        named = dict(self.options) | ({"given": given} if given else {}) | ({"keep": keep} if keep else {})
        lines = [f"    {name}={value!r},".replace("'", '"') for name, value in named.items()]
        head = ["from mmgen_jax import MMGen", "", f'model = MMGen.load("{workdir}")', "out = model.generate("]
        return "\n".join([*head, *lines, ")", f'out.save("{_AGAIN}")', ""])


def solvers(architecture: Architecture) -> list[str]:
    """Names of the solvers that the model can be sampled with."""
    linear = architecture.path == "linear"
    possible = {name: s for name, s in SOLVERS.items() if not s.averages and (linear or not s.needs_linear_path)}
    return list(possible)


def parse(form: Form, architecture: Architecture) -> Request:
    """The request of a form. Raises UsageError, whose line names the field of the form, for whatever cannot be one."""
    options = _settings(form, architecture)
    roles = {m: choice(f"role of {m}", form.parts[m].role, ROLES) for m in architecture.modalities}
    parts = {m: form.parts[m] for m, role in roles.items() if role == GIVEN}
    given, keep, strength = _conditions(parts, architecture.image_size)
    wanted = tuple(m for m, role in roles.items() if role == MADE or m in keep)
    if not wanted:
        raise UsageError(
            f"nothing is to be made: all modalities are given or ignored; set one to {MADE}, or paint a region of one"
        )
    if IGNORED in roles.values():
        options["wanted"] = wanted
    if strength:
        options["strength"] = strength
    return Request(options, given, keep)


def _settings(form: Form, architecture: Architecture) -> dict[str, Any]:
    """Options of what the form says of no modality. Raises UsageError."""
    solver = choice("solver", form.solver, solvers(architecture))
    for name, rule in _NUMBERS.items():
        require(name, getattr(form, name), rule)
    class_id = choice("class", form.class_name, (NO_CLASS, *architecture.facts.class_names))
    options: dict[str, Any] = {} if class_id == NO_CLASS else {"class_id": class_id}
    options |= {"solver": solver, "steps": form.steps, "guidance": form.guidance}
    return options | {"seed": form.seed, "draws": form.draws, "batch": 1}


def _conditions(
    parts: Mapping[str, Part], size: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, float]]:
    """Images, known pixels and strengths of the modalities that are given, see `Request`. Raises UsageError.

    Only what is known in part has known pixels, and only strengths other than 1 are there.
    """
    given, keep, strength = dict[str, np.ndarray](), dict[str, np.ndarray](), dict[str, float]()
    for m, part in parts.items():
        if not part.picture:
            raise UsageError(
                f"{m} is given, but has no picture; upload or paint one, or set {m} to {MADE} or {IGNORED}"
            )
        given[m] = _painted(f"picture of {m}", part.picture, size)
        known = _known(m, part.region, size)
        if not known.all():
            keep[m] = known
        require(f"strength of {m}", part.strength, number(*STRENGTHS))
        if part.strength == 1:
            continue
        if m in keep:
            raise UsageError(f"strength of {m} is {part.strength:g}; allowed: 1, as a region of {m} is made anew")
        strength[m] = float(part.strength)
    return given, keep, strength


def uploaded(m: str, data: bytes, architecture: Architecture) -> str:
    """An image file of any size as the picture of a modality, a data URL of the model's size.

    Raises UsageError for what cannot be read, is too large or cannot hold this modality.
    """
    source = Source(f"file of {m}")
    if len(data) > MOST_BYTES:
        raise source.error(f"has {len(data)} bytes", f"at most {MOST_BYTES}")
    image = decoded(data, source)
    height, width = image.samples.shape[:2]
    if height * width > MOST_PIXELS:
        raise source.error(f"has {width}x{height} pixels", f"at most {MOST_PIXELS} in all, as 4096x4096 has")
    return shown(m, _value(m, image, architecture, source)[0], architecture)


def shown(m: str, value: np.ndarray, architecture: Architecture) -> str:
    """A value [H, W(, 3)] of a modality as a picture that can be painted on, a data URL."""
    pixels = to_pixels(MODALITIES[m].array(value, architecture.facts), np.uint8)
    return _START + base64.b64encode(png(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))).decode()


def _value(m: str, image: Decoded, architecture: Architecture, source: Source | None = None) -> np.ndarray:
    """An image as values [1, H, W(, 3)] of a modality. Raises UsageError."""
    kind, facts, source = MODALITIES[m], architecture.facts, source or Source(f"picture of {m}")
    return kind.from_given(kind.from_file(image, facts, source), architecture.image_size, facts, source)


def _painted(name: str, text: object, size: int) -> np.ndarray:
    """The image uint8 [size, size(, 3)] of a data URL. Raises UsageError for anything else."""
    source = Source(name)
    if not isinstance(text, str) or not text.startswith(_START):
        raise source.error("is not what the page paints", "an image as the page paints it")
    if len(text) > 4096 + 8 * size * size:
        raise source.error(f"has {len(text)} characters", f"a painted image of {size}x{size} pixels")
    try:
        data = base64.b64decode(text[len(_START) :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise source.error("is not what the page paints", "an image as the page paints it") from error
    image = decoded(data, source)
    if image.samples.shape[:2] != (size, size) or image.samples.dtype != np.uint8:
        height, width = image.samples.shape[:2]
        raise source.error(f"has {width}x{height} pixels", f"{size}x{size}, the model's size")
    return image.shown().samples


def _known(m: str, region: object, size: int) -> np.ndarray:
    """Pixels bool [size, size] of a modality that are not in the region that is made anew. Raises UsageError."""
    if region == "":
        return np.ones((size, size), bool)
    image = _painted(f"region of {m}", region, size)
    return (image if image.ndim == 2 else image.max(-1)) < 128


def _path(role: str, m: str) -> str:
    return f"{role}/{m}.png"
