"""The command line as a person meets it: exit codes, one line an error, help that costs little."""

import subprocess
import sys

import pytest

import medgan_ray
from medgan_ray import errors
from medgan_ray.cli import main as program
from medgan_ray.verbs import phantom

VERBS = [
    "demo",
    "phantom",
    "ingest",
    "withdraw",
    "inspect",
    "train",
    "tune",
    "generate",
    "publish",
    "promote",
    "serve",
    "submit",
    "config",
]


def _run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = program.main(words)
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def _one_error(err: str) -> str:
    lines = err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), err
    return lines[0]


def test_help_names_every_verb_and_loads_nothing_heavy():
    code = (
        "import sys; from medgan_ray.cli.main import main; code = main(['--help']);"
        "print(sorted({'torch', 'ray', 'numpy', 'pydicom', 'rich'} & set(sys.modules)), file=sys.stderr);"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert [verb for verb in VERBS if f"  {verb} " not in done.stdout] == []
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help_with_an_example(capfd: pytest.CaptureFixture[str], verb: str):
    code, out, err = _run(capfd, verb, "--help")
    assert code == 0 and err == ""
    assert (
        f"Usage: medgan-ray {verb} " in out and "Example:" in out and f"medgan-ray {verb} " in out.split("Example:")[1]
    )
    for option in ("--config", "--json", "--quiet", "--debug"):
        assert option in out


def test_version(capfd: pytest.CaptureFixture[str]):
    assert _run(capfd, "--version") == (0, f"medgan-ray {medgan_ray.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["trian"], "did you mean 'train'?"),
        (["train", "--jsno"], "--json"),
        (["--bogus"], "--bogus"),
        (["tune", "data", "runs"], "--space"),
        (["train"], "DATASET is missing"),
        (["train", "data"], "RUN is missing"),
        (["train", "data", "run", "more"], "'more' is one word too many"),
        (["train", "data", "run", "imagse=5"], "did you mean 'images'?"),
        (["train", "data", "run", "train.lr=-1"], "train.lr"),
        (["train", "data", "run", "train.lrr=1"], "did you mean 'lr'?"),
        (["train", "data", "run", "images=[1"], "not YAML"),
        (["generate", "run", "out", "-n", "many"], "-n"),
        (["config", "shwo"], "did you mean 'show'?"),
        (["phantom", "s3://bucket/out"], "local folder"),
    ],
)
def test_wrong_use_is_exit_2_and_one_line(capfd: pytest.CaptureFixture[str], words: list[str], hint: str):
    code, out, err = _run(capfd, *words)
    assert (code, out) == (2, "")
    assert hint in _one_error(err)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "no/such/dataset", "run"],
        ["ingest", "no/such/folder", "data"],
        ["inspect", "no/such/thing"],
        ["generate", "no/such/run", "out"],
        ["train", "data", "run", "--config", "no/such.yaml"],
    ],
)
def test_missing_input_is_exit_4_and_names_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path, words: list[str]
):
    monkeypatch.chdir(tmp_path)
    code, out, err = _run(capfd, *words)
    assert (code, out) == (4, "")
    assert "no/such" in _one_error(err)
    assert not any(tmp_path.rglob("*.json"))


REFUSALS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.MedganError)]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda each: each.__name__)
def test_each_refusal_keeps_its_exit_code(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, refusal: type[errors.MedganError]
):
    def refuse(*_: object, **__: object) -> None:
        raise refusal("what\nhappened", "where", "what to do")

    monkeypatch.setattr(phantom, "make_phantoms", refuse)
    code, _, err = _run(capfd, "phantom", "out")
    assert code == refusal.exit_code
    assert _one_error(err) == "error: what happened (where): what to do"


def test_a_bug_is_exit_1_and_asks_for_a_report(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(phantom, "make_phantoms", lambda *_, **__: 1 / 0)
    code, _, err = _run(capfd, "phantom", "out")
    assert code == 1
    assert "ZeroDivisionError" in _one_error(err) and "report" in err and "Traceback" not in err
    code, _, err = _run(capfd, "phantom", "out", "--debug")
    assert code == 1 and "Traceback" in err and err.splitlines()[-1].startswith("error: ")


def test_ctrl_c_is_exit_130(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(phantom, "make_phantoms", interrupt)
    code, _, err = _run(capfd, "phantom", "out")
    assert code == 130 and "interrupted" in _one_error(err)


def test_python_m_is_the_same_program():
    done = subprocess.run([sys.executable, "-m", "medgan_ray", "config", "shwo"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: config 'shwo'")
