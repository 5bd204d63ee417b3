"""Facts of a data set: what a model remembers of them, and how those of a model and of its data complete each other."""

import json

import numpy as np
import pytest

from mmgen_jax.modalities.facts import Facts

COLOURS = np.array([[0, 0, 0], [255, 0, 9]], np.uint8)
ALL = Facts(COLOURS, ("ground", "object"), ("a", "b"), 40.0, (1.0, 9.0))


def values(facts):
    return facts.palette.tolist(), facts.regions, facts.class_names, facts.fov_degrees, facts.depth_range


def test_a_model_remembers_all_but_the_field_of_view():
    stored = json.loads(json.dumps(ALL.to_json()))
    assert list(stored) == ["class_names", "palette", "regions", "depth_range"]
    assert values(Facts.from_json(stored)) == (COLOURS.tolist(), ALL.regions, ALL.class_names, None, ALL.depth_range)


def test_models_of_older_versions_have_no_depth_range():
    old = {"class_names": ["a"], "palette": [], "regions": []}
    assert values(Facts.from_json(old)) == ([], (), ("a",), None, None)
    for name in old:
        with pytest.raises(KeyError, match=name):
            Facts.from_json({key: value for key, value in old.items() if key != name})


def test_only_what_is_unknown_is_completed():
    assert values(Facts().completed(ALL)) == values(ALL) == values(ALL.completed(Facts()))
    other = Facts(COLOURS[:1], ("sky",), ("c",), 50.0, (2.0, 3.0))
    assert values(ALL.completed(other)) == values(ALL)
    assert values(Facts(class_names=("c",)).completed(ALL)) == (COLOURS.tolist(), ALL.regions, ("c",), 40.0, (1.0, 9.0))


def test_only_numbered_classes_get_names():
    numbered = Facts(class_names=("0", "1"))
    assert numbered.named(("a", "b")).class_names == ("a", "b")
    assert numbered.named(("a", "b", "c")).class_names == ("0", "1")
    assert ALL.named(("x", "y")).class_names == ("a", "b")
