"""The public face: complete, sorted, importable, and cheap to import."""

import subprocess
import sys

import medgan_ray


def test_all_is_sorted_and_free_of_repeats():
    assert list(medgan_ray.__all__) == sorted(set(medgan_ray.__all__))


def test_every_name_in_all_resolves():
    missing = [name for name in medgan_ray.__all__ if not hasattr(medgan_ray, name)]
    assert missing == []


def test_dir_offers_what_all_names():
    assert set(medgan_ray.__all__) <= set(dir(medgan_ray))


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(medgan_ray, "no_such_name")


def test_import_costs_neither_torch_nor_ray():
    heavy = "{'torch', 'ray', 'numpy', 'pydicom', 'kornia', 'botocore', 'scipy'}"
    code = f"import sys, medgan_ray; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
