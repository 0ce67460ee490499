"""Every named source of pairs, from a folder and from the stub hub, with the columns of its release."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from detox.data.pairs.reading import read_pairs
from detox.data.pairs.settings import PairSettings
from detox.data.pairs.sources import PAIR_SOURCES
from tests.hub import StubHub, run_python
from tests.hub_contents import write_csv, write_parquet

READ = """
import json, sys
from detox.data.pairs.reading import read_pairs
from detox.data.pairs.settings import PairSettings
for name in sys.argv[1:]:
    found = read_pairs(PairSettings(source=(name,)))
    print(json.dumps([name, found.origins[0].revision, [list(pair) for pair in found.pairs]]))
"""


def rows(toxic: str, neutral: str, count: int = 2, **more: str) -> list[dict[str, str]]:
    return [{toxic: f"you idiot {n}", neutral: f"you are wrong {n}", **more} for n in range(count)]


def write_pairs(base: Path) -> dict[str, Path]:
    """The data sets of the hub, tiny."""
    write_csv(base / "s-nlp/paradetox/train.csv", rows("en_toxic_comment", "en_neutral_comment"))
    multi = base / "textdetox/multilingual_paradetox"
    for code in "de", "am":
        write_parquet(multi / "data" / f"{code}-00000-of-00001.parquet", rows("toxic_sentence", "neutral_sentence"))
    files = "".join(f"  - split: {code}\n    path: data/{code}-*\n" for code in ("de", "am"))
    (multi / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    for part in "train", "dev":
        lines = [f"{row['a']}\t{row['b']}" for row in rows("a", "b")]
        (base / "s-nlp/ru_paradetox").mkdir(parents=True, exist_ok=True)
        table = "\n".join(["ru_toxic_comment\tru_neutral_comment", *lines]) + "\n"
        (base / f"s-nlp/ru_paradetox/{part}.tsv").write_text(table)
    synthetic = rows("toxic_sentence", "neutral_sentence", lang="fr")
    write_parquet(base / "s-nlp/synthdetoxm/data/train-00000-of-00001.parquet", synthetic)
    return {
        name: base / name
        for name in (
            "s-nlp/paradetox",
            "textdetox/multilingual_paradetox",
            "s-nlp/ru_paradetox",
            "s-nlp/synthdetoxm",
        )
    }


def test_every_hub_source_loads(tmp_path: Path, serve_hub: Callable[..., StubHub]) -> None:
    """A split of multilingual ParaDetox is a language; those of the Russian one are parts."""
    hub = serve_hub(datasets=write_pairs(tmp_path))
    names = [name for name, source in PAIR_SOURCES.items() if source.hub]
    found = {name: pairs for name, _, pairs in map(json.loads, run_python(hub, READ, *names).splitlines())}
    langs_and_splits = {name: [(pair[2], pair[5]) for pair in pairs] for name, pairs in found.items()}
    assert langs_and_splits == {
        "paradetox": [("en", "")] * 2,
        "multiparadetox": [("de", "")] * 2 + [("am", "")] * 2,
        "ru_paradetox": [("ru", "train")] * 2 + [("ru", "validation")] * 2,
        "synthdetoxm": [("fr", "")] * 2,
    }
    assert all(pair[3:5] == ["you idiot 0", "you are wrong 0"] for pairs in found.values() for pair in pairs[:1])


def test_appdia_is_read_from_its_repository(tmp_path: Path) -> None:
    for part, count in {"train": 3, "dev": 1, "test": 2}.items():
        lines = [f"{row['a']}\t{row['b']}" for row in rows("a", "b", count)]
        table = "\n".join(["offensive-text\tstyle-transferred-text", *lines])
        (tmp_path / f"original-{part}.tsv").write_text(table + "\n")
    found = read_pairs(PairSettings(source=("appdia",), local=str(tmp_path)))
    assert [pair.split for pair in found.pairs] == ["train"] * 3 + ["validation"] + ["test"] * 2
    with pytest.raises(ValueError, match=r"appdia.* is not on the hub\. To get it: .*github"):
        read_pairs(PairSettings(source=("appdia",)))


@pytest.mark.parametrize(
    ("source", "file", "columns"),
    [
        ("paradetox", "paradetox/paradetox.tsv", "toxic neutral1 neutral2 neutral3"),
        ("ru_paradetox", "train.tsv", "toxic_comment neutral_comment1 neutral_comment2 neutral_comment3"),
    ],
)
def test_files_as_the_authors_publish_them(tmp_path: Path, source: str, file: str, columns: str) -> None:
    """Up to three rewrites of a source, a column each."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    rows = [columns.split(), ("you idiot", "you", "", ""), ("you fool", "you", "hey", "stop")]
    (tmp_path / file).write_text("\n".join(map("\t".join, rows)) + "\n")
    found = read_pairs(PairSettings(source=(source,), local=str(tmp_path)))
    rewrites = [("you fool", neutral) for neutral in ("you", "hey", "stop")]
    assert [(pair.toxic, pair.neutral) for pair in found.pairs] == [("you idiot", "you"), *rewrites]
    assert not found.rejects


LOCAL = {"paradetox": ("paradetox_en", {"en"}), "ru_paradetox": ("ru_paradetox", {"ru"})}
LOCAL |= {"multiparadetox": ("multiparadetox_dev", {"en", "ru", "uk", "de", "es", "am", "zh", "ar", "hi"})}


@pytest.mark.data
@pytest.mark.parametrize("source", LOCAL)
def test_local_copies_under_their_own_names(data_folder: Path, source: str) -> None:
    file, langs = LOCAL[source]
    found = read_pairs(PairSettings(source=(source,), local=str(data_folder), limit=3600))
    assert {pair.lang for pair in found.pairs} == langs
    assert [path.name for path in found.origins[0].files] == [f"{file}.parquet"]


def test_a_misspelt_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no source is named 'paradetoxx': did you mean 'paradetox'"):
        read_pairs(PairSettings(source=("paradetoxx",)))
    with pytest.raises(ValueError, match=r"no source of pairs is given: name one or several of paradetox"):
        read_pairs(PairSettings())


def test_every_source_states_its_facts() -> None:
    for name, source in PAIR_SOURCES.items():
        assert source.name == name
        assert all((source.title, source.licence, source.obtain, source.mapping))
        assert source.generate or (source.homepage and source.local)
