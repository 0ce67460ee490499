"""Configs: frozen, closed, overridden by one function, spelled alike by Python and JSON."""

import json

import pytest
from pydantic import Field

from detox.runs.config import Config, differences, digest, flatten, from_file, identity, override, to_json, validated
from rayjobs.train_classifier import RECIPES, demo, minilm


class Stage(Config):
    lr: float = Field(default=0.1, gt=0)


class Toy(Config):
    stages: tuple[Stage, ...] = (Stage(), Stage(lr=0.2))
    words: tuple[str, ...] = ()
    group: Stage = Stage()


def test_override_reaches_groups_and_list_elements() -> None:
    changed = override(Toy(), {"group.lr": 0.5, "stages.1.lr": 0.7, "words": ["a", "b"]})
    assert changed == Toy(stages=(Stage(), Stage(lr=0.7)), words=("a", "b"), group=Stage(lr=0.5))


def test_override_leaves_the_original_alone() -> None:
    original = Toy()
    override(original, {"group.lr": 0.5})
    assert original == Toy()


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"group.rate": 1}, "'group.rate' does not exist: under group there are lr"),
        ({"stages.7.lr": 1}, "positions 0 to 1"),
        ({"stages.0": {"lr": 1}}, "give the whole list"),
        ({"group.lr": -1}, "greater than 0 .given: -1."),
        ({"nothing": 1}, "under the top there are group, stages, words"),
    ],
)
def test_a_bad_override_says_which_key(patch: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        override(Toy(), patch)


def test_unknown_key_is_named() -> None:
    with pytest.raises(ValueError, match="speed: is not a setting of this config"):
        validated(Toy, {"speed": 3})


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_survives_its_config_file(recipe: str, tmp_path) -> None:
    config = RECIPES[recipe]()
    (tmp_path / "config.json").write_text(to_json(config))
    assert from_file(type(config), tmp_path / "config.json") == config


@pytest.mark.parametrize(("text", "said"), [("{", "not a JSON config"), ("[1]", "holds an object")])
def test_a_broken_config_file_is_explained(text: str, said: str, tmp_path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        from_file(Toy, tmp_path / "c.json")


def test_where_a_run_lies_does_not_change_what_it_is() -> None:
    """Storage, name, tracking and retries are free; the learning rate is not."""
    moved = override(minilm(), {"run.storage": "/elsewhere", "run.name": "x", "tracking.wandb.project": "p"})
    assert identity(moved) == identity(minilm())
    assert list(differences(minilm(), override(moved, {"optimiser.lr": 0.5}))) == [
        "optimiser.lr: 0.0002 there, 0.5 here"
    ]


def test_digest_ignores_key_order_and_sees_values() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})


def test_flatten_keeps_lists_whole() -> None:
    assert flatten(Toy())["stages"] == [{"lr": 0.1}, {"lr": 0.2}]
    assert flatten(demo())["optimiser.lr"] == json.loads(to_json(demo()))["optimiser"]["lr"]
