"""``medgan-ray evaluate``: figures, privacy audit, utility, report; and the verdict of the gate."""

from medgan_ray.cli.call import Call, verb
from medgan_ray.errors import GateRefusal


@verb("RUN DATASET", "medgan-ray evaluate runs/1 heads evaluate.utility=none", placed=True)
def evaluate(call: Call) -> None:
    """Say how good, accurate, private and useful a run's generator is, or how far a recognizer can be relied on.

    It is judged on the scans of DATASET that training never saw. RUN/report.html tells it without a real pixel,
    RUN/private/report.html shows real scans. Exit code 3 if the gate refuses it.
    """
    run, dataset = call.paths()
    with call.show.progress("evaluate", "steps") as bar:
        if call.placed:
            from medgan_ray.on_ray import chores

            place = chores.Place(call.address, call.settings.ray.shared_paths)
            result = chores.evaluate_run(run, dataset, call.config, bar.update, place)
        else:
            from medgan_ray.verbs.evaluate import evaluate_run

            result = evaluate_run(run, dataset, call.local_config, bar.update)
    if call.show.as_json:
        call.show.result(result)
    else:
        call.show.line(f"{result.verdict.capitalize()}. {result.report}")
        rows = [
            (rule.name, rule.value, rule.limit, "kept" if rule.passed else "BROKEN", rule.note) for rule in result.rules
        ]
        call.show.table(("rule", "measured", "limit", "", "what that means"), rows)
    if result.verdict != "passed":
        from medgan_ray.evaluate.gate import sentences

        failed = [rule for rule in result.rules if not rule.passed]
        raise GateRefusal(f"the gate refuses this model: {sentences(failed)}", run, "see the report")
