"""Finds the weights of a network within what a file holds, whatever they are wrapped in.

Files keep them beside an optimizer, an average, or another network, and put `module.` or `_orig_mod.` before or into
their names. A network is recognised by one of its names, its anchor: what precedes that name precedes all of its names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files.torch_pickle import Unknown

State = Mapping[str, np.ndarray]

# Parts of names that PyTorch's wrappers insert: for several devices, compilation, and recomputed activations.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
COUNTERS = {"n_averaged"}  # what PyTorch's AveragedModel keeps beside its weights
_DEPTH = 4  # of entries within entries
_SHOWN = 3  # names in a message


class _Renamed(Mapping):
    """Arrays under other names; each is read when it is asked for."""

    def __init__(self, state: State, names: Mapping[str, str]):
        """`names` maps each new name to that in `state`."""
        self._state, self._names = state, names

    def __getitem__(self, name: str) -> np.ndarray:
        return self._state[self._names[name]]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class Network:
    """The weights of a network as they were found.

    Attributes:
      entry: the entry of the file that holds them, such as "ema" or "teacher.model"; "" for the file itself.
      prefix: what stands before their names in that entry, such as "backbone."; "" for nothing.
      weights: name without the prefix -> array.
      whole: the same with all other arrays of the entry, under their own names.
    """

    entry: str
    prefix: str
    weights: State
    whole: State

    @property
    def averaged(self) -> bool:
        """Whether the entry is an average of weights over training."""
        return "ema" in self.entry.lower().replace(".", "_").split("_")


def is_state(value: object) -> TypeGuard[dict[str, np.ndarray]]:
    """Whether a value is a dict from names to arrays that is not empty."""
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, np.ndarray) for k, v in value.items())
    )


def find(value: object, anchors: Sequence[str], source: object) -> list[Network]:
    """All networks with one of the names `anchors` in what `tensors.read` returned for the file `source`.

    Raises UsageError if a file holds none; the message says what it holds.
    """
    found = list(_collect(value, "", anchors, source, _DEPTH))
    if not found:
        raise UsageError(f"{source} holds no weights with a name like {' or '.join(anchors)}: {_description(value)}")
    return found


def only(networks: Sequence[Network], source: object) -> Network:
    """The one network of a file. Raises UsageError if there are several."""
    if len(networks) > 1:
        told = ", ".join((f"{n.entry}.{n.prefix}" if n.entry else n.prefix).strip(".") or "itself" for n in networks)
        raise UsageError(f"{source} holds several networks ({told}); save the one to be read in a file of its own")
    return networks[0]


def read(value: object, anchors: Sequence[str], source: object) -> Network:
    """The network of a file that holds one, or one and its average, which then is taken. Raises as `find`."""
    found = find(value, anchors, source)
    return only([network for network in found if network.averaged] or found, source)


def _collect(value: object, entry: str, anchors: Sequence[str], source: object, depth: int) -> Iterator[Network]:
    if not isinstance(value, Mapping):
        return
    names = _bare_names(value, source)
    prefixes = {name[: -len(a)] for name in names for a in anchors if name == a or name.endswith("." + a)}
    for prefix in sorted(prefixes):
        own = {name.removeprefix(prefix): old for name, old in names.items() if name.startswith(prefix)}
        rest = {name: old for name, old in names.items() if not name.startswith(prefix)}
        yield Network(entry, prefix, _Renamed(value, own), _Renamed(value, rest | own))
    if not prefixes and depth and isinstance(value, dict):
        for key, inner in value.items():
            yield from _collect(inner, f"{entry}.{key}".strip("."), anchors, source, depth - 1)


def _bare_names(value: Mapping, source: object) -> dict[str, str]:
    """Name without the parts of wrappers -> name, of all arrays."""
    names: dict[str, str] = {}
    for name in value:
        if not isinstance(name, str) or (isinstance(value, dict) and not isinstance(value[name], np.ndarray)):
            continue
        bare = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if bare in names:
            raise UsageError(f"{source} holds both {names[bare]} and {name}; save one of them in a file of its own")
        if bare not in COUNTERS:
            names[bare] = name
    return names


def _description(value: object) -> str:
    """What a file without weights holds, for a message."""
    if isinstance(value, Unknown):
        return f"it is a pickled {value.name}; save its state_dict() with PyTorch"
    if not isinstance(value, Mapping):
        return f"it is a value of type {type(value).__name__}, not weights by name"
    kinds = value.values() if isinstance(value, dict) else ()  # other mappings hold arrays alone
    unknown = sorted({inner.name for inner in kinds if isinstance(inner, Unknown)})
    more = f" and values of the kinds {', '.join(unknown[:_SHOWN])}, which are not read" if unknown else ""
    names = [str(name) for name in value]
    return f"it has {', '.join(names[:_SHOWN]) or 'nothing'}{' ...' if len(names) > _SHOWN else ''}{more}"
