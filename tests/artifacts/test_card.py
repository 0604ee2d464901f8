"""A model card is Hugging Face's format, tells of the gate, and shows what comes from outside as plain words."""

import yaml

from medgan_ray.artifacts.card import write_card
from medgan_ray.artifacts.versions import Description, Release

CARD = Description.parse(
    {
        "model": {"name": "dcgan"},
        "channels": 1,
        "size": (64, 64),
        "modality": "CT",
        "intensity": {"unit": "HU", "low": -1024, "high": 3071, "window": (-1024, 3071)},
        "labels": [{"name": "label", "classes": ("normal", "<b>le|sion</b>\n# evil")}],
        "class_counts": (120, 3),
        "weights": "ab" * 32,
        "content_digest": "cd" * 32,
        "manifest": "ef" * 32,
        "checkpoint": "000000000096-0123456789ab",
        "images": 96,
        "code_version": "0.1.0",
    }
)
RELEASE = Release(
    name="heads",
    version=3,
    published="2026-01-01T00:00:00+00:00",
    verdict="refused",
    failed=("copies",),
    forced="a `baseline` for <script>alert(1)</script>",
    run="1",
    run_sha256="12" * 32,
    license="apache-2.0",
)
EVALUATION = {
    "rules": [
        {"name": "copies", "value": 0.02, "limit": "at most 0.005", "passed": False},
        {"name": "recall", "value": None, "limit": "at least 0.2", "passed": True},
    ],
    "figures": {
        "fid[a|b]": {"value": 1.5, "low": 1.25, "high": 1.75, "floor": 1.0, "n": 200},
        "tstr": {"value": None, "n": 0, "not_applicable": "the scans have no classes"},
    },
}


def test_the_front_matter_is_yaml_and_the_tables_are_there():
    text = write_card(CARD, RELEASE, EVALUATION, use="Teaching.")
    _, front, body = text.split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["license"] == "apache-2.0" and told["library_name"] == "medgan-ray" and "gate-refused" in told["tags"]
    assert "| copies | 0.02 | at most 0.005 | **not kept** |" in body
    assert "| recall | – | at least 0.2 | kept |" in body
    assert r"| fid\[a\|b\] | 1.5 | 1.25 to 1.75 | 1 | 200 |" in body
    assert "| tstr | the scans have no classes | – | – | 0 |" in body
    for words in ("not a medical device", "## Intended use\n\nTeaching.", "## Limits", CARD.manifest, "000000000096"):
        assert words in body


def test_what_comes_from_outside_is_plain_words():
    text = write_card(CARD, RELEASE, EVALUATION, use="# <img src=x>\n\n[a](b)")
    assert "<" not in text
    assert "Why: a \\`baseline\\` for &lt;script&gt;alert\\(1\\)&lt;/script&gt;" in text
    assert "\n# evil" not in text and r"&lt;b&gt;le\|sion&lt;/b&gt; \# evil" in text
    assert r"\# &lt;img src=x&gt; \[a\]\(b\)" in text


def test_few_scans_of_a_class_are_not_counted_and_what_was_not_evaluated_says_so():
    text = write_card(CARD, RELEASE.model_copy(update={"verdict": "none", "failed": (), "license": "other"}), {})
    assert "| normal | 120 |" in text and "fewer than 5 |" in text
    assert "not evaluated" in text and "license_name: not-stated" in text
