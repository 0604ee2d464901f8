"""The chapters of a generator's evaluation: how good, accurate, private and useful what it makes is."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from medgan_ray.evaluate import fit, logits, own, privacy, sets, utility
from medgan_ray.evaluate.accuracy import class_accuracy
from medgan_ray.evaluate.case import HELD_OUT, TEST, GeneratorCase
from medgan_ray.evaluate.chapter import Chapter
from medgan_ray.evaluate.fidelity import fidelity
from medgan_ray.evaluate.sampled import Population
from medgan_ray.metrics.figure import absent
from medgan_ray.tasks.generate import GenerateTask


def of_fidelity(case: GeneratorCase) -> Chapter:
    """How good, and how plausible: see ``fidelity.MEANINGS``."""
    manifest = case.dataset.manifest
    figures = fidelity(
        case.real,
        case.fake,
        case.pool,
        manifest.intensity,
        classes=manifest.classes,
        attributes=manifest.attributes,
    )
    return Chapter(figures)


def of_privacy(case: GeneratorCase) -> Chapter:
    """How private: see ``privacy``."""
    most = case.settings.neighbors
    task = logits.discriminator(case)
    trained, held_out = (_side(case, names, most, task) for names in (("train",), HELD_OUT))
    audit = privacy.audit(
        case.fake.images, trained, held_out, extract=case.extractor.features, draws=case.settings.draws
    )
    named = {f"privacy.{name}": figure for name, figure in audit.figures.items()}
    words = [f"The audit is broken: {audit.broken}."] if audit.broken else list(audit.remarks)
    seen, there = len(trained.subjects), len(case.dataset.split("train"))
    if seen < there:
        words.append(f"Copies were looked for among {seen:,} of {there:,} training scans (evaluate.neighbors).")
    return Chapter(named, " ".join(words), audit.pairs)


def of_classes(case: GeneratorCase) -> Chapter:
    """How accurate: is the class that was asked for recognized in what was generated."""
    classes = case.dataset.manifest.classes
    if len(classes) < 2:
        return Chapter({"classes.accuracy": absent(_NO_CLASSES, len(case.fake))})
    if not case.own.classes:
        why = f"fewer than two classes have {own.FEWEST_OF_CLASS} training scans to learn from"
        return Chapter({"classes.accuracy": absent(why, len(case.fake))})
    named, named_real = (case.own.probabilities(each.images).argmax(1) for each in (case.fake, case.real))
    draws = case.settings.draws
    return Chapter(class_accuracy(named, case.fake.labels, named_real, case.real.labels, classes, draws))


def of_utility(case: GeneratorCase) -> Chapter:
    """How useful: recognizers trained with and without generated scans, as many of these as of real ones."""
    mode, names = case.settings.utility, ("utility.gain", "utility.over_duplicated")
    if mode == "none" or len(case.dataset.manifest.classes) < 2:
        why = "not measured: evaluate.utility=none" if mode == "none" else _NO_CLASSES
        return Chapter(dict.fromkeys(names, absent(why)))
    real, test = (fit.gathered(case.dataset, name) for name in ("train", TEST))
    synthetic = fit.small(sets.generated_samples(case.model, len(real)))
    scans = utility.Scans(real=real, test=test, synthetic=synthetic)
    found = utility.utility(case.dataset.manifest, scans, case.run, utility.MODES[mode], draws=case.settings.draws)
    unasked = dict.fromkeys(names, absent(f"not measured: evaluate.utility={mode}"))
    return Chapter({**unasked, **found.figures}, found.sentence)


CHAPTERS: Mapping[str, Callable[[GeneratorCase], Chapter]] = {
    "fidelity": of_fidelity,
    "classes": of_classes,
    "privacy": of_privacy,
    "utility": of_utility,
}
_NO_CLASSES = "the dataset has no classes"


def _side(case: GeneratorCase, names: tuple[str, ...], most: int, task: GenerateTask | None) -> Population:
    """Return the scans of some splits, one after another, as the audit takes them."""
    dataset = case.dataset

    def images() -> Iterator[NDArray[np.float32]]:
        for name in names:
            yield from sets.chunks(dataset, name, most)

    known = [dataset.split(name).known(sets.drawn(dataset, name, most)).subject for name in names]
    scores = [logits.logits(case, task, name, most) for name in names] if task else None
    return Population(images, np.concatenate(known), None if scores is None else np.concatenate(scores))
