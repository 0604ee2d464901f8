"""Claim: whether generated scans help to recognize disease is said with intervals, and never more than they hold.

    python benchmarks/utility.py ../shared/data/brain_mri out/utility --images 120000

Three datasets with the same val and test scans: ``all``; ``tenth``, a tenth of the training groups; ``rare``, where one
class keeps a tenth of its training groups. One label-conditional generator is trained on each, and on nothing else.
Then recognizers are fitted every way of ``medgan_ray/evaluate/utility.py``, five seeds each: with all training scans,
with the tenth, and with the rare class, to which generated scans of that class alone are added until it is as common as
the mean of the others. Prints the figures with 95 % intervals over groups and seeds. Goes on where it was stopped.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np

from medgan_ray import ingest_scans, load_model
from medgan_ray.config import expand, from_words, merge
from medgan_ray.dataset.batches import Dataset, open_dataset
from medgan_ray.evaluate import fit, sets, utility
from medgan_ray.inference.model import Model
from medgan_ray.ingest.deidentify import identities, subject_key
from medgan_ray.metrics.figure import Figure
from medgan_ray.on_ray.train import train
from medgan_ray.store import Store, open_store
from medgan_ray.verbs.withdraw import withdraw_subjects

RARE = "glioma"
SHOWN = ("balanced_accuracy", "auroc", "ece", f"sensitivity_{RARE}")
OF_RARE = utility.Plan(("real", "augmented", "duplicated", "mixed", "both"), 5)


def main() -> None:
    """Make the datasets, train the generators and print the tables."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("scans", type=Path, nargs="?", default=Path("../shared/data/brain_mri"))
    words.add_argument("out", type=Path, nargs="?", default=Path("out/utility"))
    words.add_argument("--images", type=int, default=120_000, help="that each generator's training sees")
    words.add_argument("--workers", type=int, default=2)
    words.add_argument("options", nargs="*", help="key=value for the generators' training")
    given = words.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    table = _table(given.scans, given.out)
    datasets = {name: _dataset(given.scans, given.out, name, table) for name in ("all", "tenth", "rare")}
    models = {name: _trained(given, name, dataset) for name, dataset in datasets.items()}
    store = open_store(str(given.out / "fits"))
    real = {name: fit.gathered(dataset, "train") for name, dataset in datasets.items()}
    scans = utility.Scans(
        real=real["all"],
        test=fit.gathered(datasets["all"], "test"),
        synthetic=sets.generated_samples(models["all"], len(real["all"])),
        of_tenth=sets.generated_samples(models["tenth"], len(real["all"])),
    )
    _print("all, and a tenth", datasets["all"], scans, store, utility.MODES["full"])
    classes = datasets["rare"].manifest.classes
    code, counts = classes.index(RARE), fit.counts(real["rare"].label[:, 0], len(classes))
    wanted = round(float(np.delete(counts, code).mean())) - counts[code]
    of_rare = sets.generated_samples(models["rare"], wanted, RARE)
    scans = utility.Scans(real=real["rare"], test=scans.test, synthetic=of_rare)
    _print(f"{RARE} rare", datasets["rare"], scans, store, OF_RARE)


def _table(scans: Path, out: Path) -> Path:
    """Write the labels so that groups of near-duplicates stand where patients would; return where."""
    with (scans / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    table = (out / "labels.csv").resolve()
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "group"])
        writer.writerows([row["file"], row["label"], row["near_group"]] for row in rows)
    return table


def _dataset(scans: Path, out: Path, name: str, table: Path) -> Dataset:
    """Return a dataset; what it is to lack is withdrawn from all scans, so that the other splits stay as they are."""
    uri, listed = str(out / name), out / f"{name}.txt"
    if not (out / name / "dataset.json").exists():
        ingest_scans(str(scans), uri, {"size": 64, "ingest.labels": str(table)})
    dataset = open_dataset(uri)
    if name == "all" or listed.exists():
        return dataset
    real = fit.gathered(dataset, "train")
    dropped = set(real.subject.tolist()) - set(utility.thinned(real).subject.tolist())
    if name == "rare":
        of_class = real.label[:, 0] == dataset.manifest.classes.index(RARE)
        dropped &= set(real.subject[of_class].tolist()) - set(real.subject[~of_class].tolist())
    key, hashes = subject_key(make=False), dataset.manifest.subjects
    with table.open(newline="") as stream:
        groups = {row["group"] for row in csv.DictReader(stream)}
    known = {key.hash(form): group for group in groups for form in identities(group)}
    listed.write_text("".join(f"{known[hashes[subject]]}\n" for subject in sorted(dropped)))
    withdraw_subjects(uri, str(listed))
    return open_dataset(uri)


def _trained(given: argparse.Namespace, name: str, dataset: Dataset) -> Model:
    """Return a generator trained on one dataset alone, each class as often as the others."""
    run, began = given.out / f"run-{name}", time.monotonic()
    options = {"images": given.images, "workers": given.workers, "data.balance": "classes"}
    result = train(str(given.out / name), str(run), merge(expand(options), from_words(given.options)))
    figures = {key: round(value, 3) for key, value in result.figures.items() if key.endswith("ratio")}
    print(
        f"{name}: {_counts(dataset)}; {result.images} images in {time.monotonic() - began:.0f} s; {figures}", flush=True
    )
    return load_model(str(run))


def _counts(dataset: Dataset) -> str:
    held = {name: dataset.split(name).class_counts(len(dataset.manifest.classes)) for name in ("train", "val", "test")}
    return ", ".join(f"{name} {dict(zip(dataset.manifest.classes, each, strict=True))}" for name, each in held.items())


def _print(title: str, dataset: Dataset, scans: utility.Scans, store: Store, plan: utility.Plan) -> None:
    began = time.monotonic()
    found = utility.utility(dataset.manifest, scans, store, plan, progress=_progress)
    print(
        f"\n{title}: {len(scans.real)} real, {len(scans.synthetic)} generated, {len(scans.test)} test scans;", end=" "
    )
    print(f"{time.monotonic() - began:.0f} s\n{found.sentence}")
    for prefix in ("utility.", "utility.tenth.") if "tenth" in plan.parts else ("utility.",):
        print(f"\n{prefix:>14} " + " ".join(f"{name:>26}" for name in SHOWN))
        for way in plan.ways:
            print(f"{way:>14} " + " ".join(f"{_said(found.figures[f'{prefix}{way}.{name}']):>26}" for name in SHOWN))
        compared = [name for name in found.figures if name.startswith((f"{prefix}gain", f"{prefix}over"))]
        for name in [each for each in compared if "sensitivity" not in each]:
            of_class = found.figures[f"{name}.sensitivity_{RARE}"]
            print(f"{name.removeprefix(prefix):>18} {_said(found.figures[name]):>26}; of {RARE} {_said(of_class):>26}")
        print(f"{'trts':>18} {_said(found.figures[prefix + 'trts']):>26}", flush=True)


def _progress(done: int, total: int) -> None:
    if done % 5 == 0:
        print(f"  {done} of {total} fits", flush=True)


def _said(figure: Figure) -> str:
    if figure.value is None:
        return str(figure.not_applicable)[:26]
    return f"{figure.value:+.3f} ({figure.low:+.3f}..{figure.high:+.3f})"


if __name__ == "__main__":
    main()
