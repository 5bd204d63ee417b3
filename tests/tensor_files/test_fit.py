"""Arrays that do not fit a network are named, in one line however many there are."""

import numpy as np
import pytest

from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import fit


def test_the_first_of_each_kind_are_named():
    wanted = {name: (2, 3) for name in "abcdef"}
    fit.check({name: np.zeros((2, 3)) for name in wanted}, wanted, "file")
    with pytest.raises(UsageError) as caught:
        fit.check({"e": np.zeros(2), "f": np.zeros((2, 3)), "x": np.zeros(1)}, wanted, "file")
    assert str(caught.value) == (
        "file does not fit the model: missing a, b, c and 1 more; left over x; misshapen e (2,) instead of (2, 3)"
    )
