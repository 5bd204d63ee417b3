"""The model card of a model folder: what it makes, its limits, and how it is used, as the hub shows it."""

from __future__ import annotations

import math
import re

import jax

from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.system.rules import Rule

UNKNOWN = "unknown"  # the hub's word for a license that nobody has said
LICENSE = Rule(
    lambda value: isinstance(value, str) and bool(re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", value)),
    "an identifier of the hub such as apache-2.0, mit, other or unknown",
)
_TAGS = {"depth": "depth-estimation", "normal": "normal-estimation", "mask": "image-segmentation"}
_WORDS = {
    "depth": "depth is relative and inverse, 1 at the nearest pixel of an image and 0 at the farthest, not metres",
    "normal": "normals are unit vectors in the camera's axes",
}
_SHOWN = 20  # names of classes or regions in one line

_CARD = """---
library_name: mmgen_jax
license: {license}
tags:
{tags}
---

# {name}

A diffusion transformer of [MMGen](https://arxiv.org/abs/2503.20644) for `mmgen_jax`, in JAX: one network of {count:,}
parameters that makes {modalities}{together} at {size} x {size} pixels{classes}.{predicts}

## Use

```python
from mmgen_jax import MMGen

model = MMGen.from_pretrained("{name}")  # a folder, or its id on the hub: "org/name"
out = model.generate(n=4)
out.save("samples")  # PNGs and gallery.html
```

`hf download org/name --local-dir={name}` fetches the folder from the hub, and

```bash
python -m mmgen_jax.app --workdir={name}
```

opens a page in the browser on which each modality can be given and made. `mmgen_jax.sample`, `evaluate` and the other
commands take `--workdir={name}` too, beside the `--config` that the model was trained with.

## Limits

{limits}

## Files

`model.safetensors` holds the weights, `model.json` the architecture, `autoencoder.safetensors` what encodes and decodes
images (if it has arrays), and `SHA256SUMS` their checksums, which are compared when the model is loaded.
"""


def text(name: str, architecture: Architecture, params: Params, license: str) -> str:
    """The card of a model called `name`; `license` is an identifier of the hub (`LICENSE`)."""
    modalities, classes = architecture.modalities, architecture.facts.class_names
    tags = ["mmgen", "jax", "flax", "diffusion", *(_TAGS[m] for m in modalities if m in _TAGS)]
    return _CARD.format(
        name=name,
        license=license,
        tags="\n".join(f"- {tag}" for tag in tags),
        count=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)),
        modalities=_listed(modalities),
        size=architecture.image_size,
        classes=f", of the classes {_listed(classes)}" if classes else "",
        together=" together" if len(modalities) > 1 else "",
        predicts="\nWhere some of them are given, it makes the others." if len(modalities) > 1 else "",
        limits="\n".join(f"* {line}" for line in _limits(architecture)),
    )


def _limits(architecture: Architecture) -> list[str]:
    """What the model cannot do, a line each."""
    size, facts = architecture.image_size, architecture.facts
    lines = [
        f"It was trained on images of {size} x {size} pixels. Larger ones are computed at that size, or in windows.",
        "It knows scenes like those it was trained on; what it makes of other images was not measured here.",
        *(f"{_WORDS[m][0].upper()}{_WORDS[m][1:]}." for m in architecture.modalities if m in _WORDS),
    ]
    if "mask" in architecture.modalities:
        named = f"Regions of masks are {_listed(facts.regions)}, and no others." if facts.regions else ""
        lines.append(named or "Masks have colours, and nothing says which colour is what.")
    return lines


def _listed(names: tuple[str, ...] | list[str]) -> str:
    """Names with commas between them; of many, the first ones and how many there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(" ".join(name.split()) for name in names[:_SHOWN]) + more
