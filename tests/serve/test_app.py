"""The application's arguments, as `serve run` and other tools give them; running it is for `test_application.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ray.serve import Application

import serve.app
from serve.app import SETTINGS, build, undotted
from tests.serve.models import write_classifier


def test_dotted_arguments_make_a_tree() -> None:
    assert undotted({"a.b": 1, "a.c.d": 2, "e": {"f": 3}}) == {"a": {"b": 1, "c": {"d": 2}}, "e": {"f": 3}}
    both = {"a": {"c": 2, "b": 1}}
    assert undotted({"a.b": 1, "a": {"c": 2}}) == undotted({"a": {"c": 2}, "a.b": 1}) == both
    with pytest.raises(ValueError, match=r"a\.b is set twice"):
        undotted({"a.b": 1, "a": {"b": 2}})
    with pytest.raises(ValueError, match=r"a\.b is set, and a is set to a value"):
        undotted({"a": 1, "a.b": 2})


def test_it_is_built_of_settings_that_hold(tmp_path: Path) -> None:
    model = str(write_classifier(tmp_path / "forum"))
    _, classifier, rewriter = build({"classifier.model": model})._bound_deployment.init_args
    assert (name(classifier), rewriter) == ("classifier", None)
    both = build({"classifier": {"model": model}, "rewriter": {"model": model}})
    assert list(map(name, both._bound_deployment.init_args[1:])) == ["classifier", "rewriter"]
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "classifier"),
        ({"classifier.model": ""}, "must name a run of train_classifier"),
        ({"classifier.model": model, "classifier.modle": "x"}, "modle"),
        ({"classifier.model": model, "rewriter.adapters": {"a": "b"}}, "rewriter.adapters need rewriter.model"),
    ]
    for args, said in cases:
        with pytest.raises(ValueError, match=said):
            build(args)


def name(application: Any) -> str:
    assert isinstance(application, Application)
    return str(application._bound_deployment.name)


def test_the_module_has_an_app_where_its_settings_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTINGS, raising=False)
    with pytest.raises(AttributeError, match=f"needs {SETTINGS}"):
        serve.app.app  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        serve.app.other  # noqa: B018
    monkeypatch.setenv(SETTINGS, json.dumps({"classifier": {"model": "runs/forum"}}))
    assert isinstance(serve.app.app, Application)
