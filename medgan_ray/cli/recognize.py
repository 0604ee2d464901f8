"""``medgan-ray recognize``: scans in, the class of each out, or "don't know"."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from medgan_ray.cli.call import Call, verb
from medgan_ray.cli.show import Show, plain

if TYPE_CHECKING:
    from medgan_ray.verbs.recognize import RecognizeResult

SHOWN = 20
"""Scans that the terminal lists."""


@verb("MODEL SOURCE…", "medgan-ray recognize registry/brains scans --out answers.csv", placed=True)
def recognize(
    call: Call,
    *,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write all answers there: .csv or .json.")] = None,
    maps: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Write pictures of the scans there, with what each answer rests on."),
    ] = None,
) -> None:
    """Say what scans show, with probabilities, or "don't know". Not a medical device.

    MODEL is a run, a search (its winner) or REGISTRY/NAME[@N] of task=recognize; SOURCE is what ingest takes. Scans are
    prepared as the model's training scans were; what can't be has a reason. workers=N places the work on Ray.
    """
    model, sources = call.paths()
    asked: dict[str, Any] = {"maps": maps, "out": out}
    with call.show.progress("recognize", "scans") as bar:
        if call.placed:
            from medgan_ray.on_ray import chores

            place = chores.Place(call.address, call.settings.ray.shared_paths)
            result = chores.recognize_scans(model, sources, call.config, bar.update, place, **asked)
        else:
            from medgan_ray.verbs.recognize import recognize_scans

            result = recognize_scans(model, sources, call.local_config, progress=bar.update, **asked)
    if call.show.as_json:
        call.show.result(result)
    else:
        _tell(call.show, result)


def _tell(show: Show, result: "RecognizeResult") -> None:
    """Show the first answers, a few refusals of each reason, and what holds for all."""
    rows = [_row(scan) for scan in result.scans[:SHOWN]]
    show.table(("file", "frame", "answer", "nearest", "probability", "set", "anomaly p"), rows)
    if len(result.scans) > SHOWN:
        show.line(f"… {len(result.scans)} scans in all" + ("" if result.out else "; --out FILE.csv keeps the answers"))
    facts = plain(result)
    rest = {name: value for name, value in facts.items() if name not in ("scans", "not_taken", "not_a_device")}
    rest["answered"] = sum(not scan["abstained"] for scan in result.scans)
    rest["examples"] = _examples(result)
    show.result(rest, "Recognized.")
    show.line(result.not_a_device)


def _row(scan: dict[str, Any]) -> tuple[object, ...]:
    answer = scan["label"] or ("foreign" if scan["foreign"] else "don't know")
    likely = scan["probabilities"][scan["nearest"]]
    return scan["file"], scan["frame"], answer, scan["nearest"], likely, ", ".join(scan["set"]) or "–", scan["anomaly"]


def _examples(result: "RecognizeResult") -> dict[str, list[str]]:
    """Return the names of a few files by the reason for which they were not taken."""
    found: dict[str, list[str]] = {}
    for each in result.not_taken:
        names = found.setdefault(each["reason"], [])
        if len(names) < 3 and each["file"] not in names:
            names.append(each["file"])
    return found
