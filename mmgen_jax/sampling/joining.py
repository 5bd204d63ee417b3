"""Several trained models in one request, as one model: others tell conditions, or one of them is the weak one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Self

from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models.architectures import Params
from mmgen_jax.sampling.editing import Editing
from mmgen_jax.sampling.others import Company
from mmgen_jax.sampling.sampler import Sampler, Voice
from mmgen_jax.system.errors import UsageError, choice, shown


class Joining(Editing):
    """A trained model that others may join; `MMGen` is one."""

    def __init__(self, sampler: Sampler, params: Params):
        super().__init__(sampler, params)
        self._company, self._voices = Company(sampler.architecture), tuple[Voice, ...]()
        self._first, self._told = self, dict[str, Joining]()

    def joined(self, models: Mapping[str, Joining] | None = None, weak: Joining | None = None) -> Self:
        """This model together with others that have a say in what `draw` makes; see `sampling.others`.

        Args:
          models: given modality -> the model that tells what it says.
          weak: a smaller or earlier model of the same modalities, for autoguidance.

        Raises:
          UsageError: models cannot go together.
        """
        if models is not None and not isinstance(models, Mapping):
            raise UsageError(f"models is {shown(models)}; allowed: a dict of modality -> MMGen")
        told = {choice("modality of models", m, MODALITIES): other for m, other in (models or {}).items()}
        for name, other in (*((f"models of {m}", other) for m, other in told.items()), ("weak", weak)):
            if not isinstance(other, Joining) and not (name == "weak" and other is None):
                raise UsageError(f"{name} is {shown(other)}; allowed: an MMGen")
        if not told and weak is None:
            return self
        view, others = copy.copy(self), {m: other.architecture for m, other in told.items()}
        view._told = told
        view._company = Company(self.architecture, others, weak.architecture if weak else None)
        tells = {other: tuple(m for m in told if told[m] is other) for other in told.values()}
        view._voices = tuple(Voice(other._sampler, other._params, names) for other, names in tells.items())
        view._voices += (Voice(weak._sampler, weak._params),) if weak else ()
        view.architecture = view._company.architecture
        return view
