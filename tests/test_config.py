"""Words, YAML and sections become one frozen configuration; what is wrong is one line with advice."""

import pytest

from medgan_ray.config import from_words, is_word, merge, read_yaml
from medgan_ray.errors import InputError, UsageError
from medgan_ray.verbs.config import Config


def test_words_are_dotted_keys_with_yaml_values():
    assert from_words(["train.lr=1e-3", "images=500", "size=[96,64]", "data.cache="]) == {
        "train": {"lr": 1e-3},
        "images": 500,
        "size": [96, 64],
        "data": {"cache": None},
    }


@pytest.mark.parametrize(("argument", "expected"), [("a.b=1", True), ("./a=1", False), ("s3://x/a=1", False)])
def test_a_word_is_told_from_a_path(argument, expected):
    assert is_word(argument) is expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.lrr=1"], "unknown key 'train.lrr': did you mean 'lr'?"),
        (["iamges=1"], "unknown key 'iamges': did you mean 'images'?"),
        (["train.lr=-1"], "train.lr=-1: Input should be greater than 0"),
        (["train.lr=.nan"], "train.lr=nan: Input should be a finite number"),
        (["model.name=r3gen"], "model.name='r3gen': did you mean 'r3gan'?"),
    ],
)
def test_a_bad_option_is_one_line_with_advice(words, message):
    with pytest.raises(UsageError) as refused:
        Config.of(from_words(words))
    assert str(refused.value) == message
    assert refused.value.exit_code == 2


def test_python_object_tags_are_refused_in_yaml(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text("seed: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(UsageError, match="not YAML"):
        read_yaml(path)


def test_a_missing_file_is_unusable_input(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_yaml(tmp_path / "none.yaml")


def test_a_file_may_use_dotted_keys_and_words_go_on_top(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("train.lr: 0.5\ntrain: {gamma: 3}\n")
    options = Config.of(merge(read_yaml(path), from_words(["train.lr=0.25"])))
    assert (options.train.lr, options.train.gamma) == (0.25, 3.0)


def test_size_may_be_one_number():
    assert Config.of({"size": 32}).size == (32, 32)
