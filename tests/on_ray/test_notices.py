"""Why workers start again is said in one line."""

from medgan_ray.on_ray.notices import cause


def test_the_cause_is_what_an_error_says_last_before_it_describes_the_worker() -> None:
    hung = "A worker health check has been hanging for 8.29 seconds. It is dead.\nWorker info: Worker(\n  x)"
    assert cause(RuntimeError(hung)) == "A worker health check has been hanging for 8.29 seconds. It is dead"
    assert cause(RuntimeError("Traceback:\n  File x\nValueError: no")) == "ValueError: no"
    assert cause(RuntimeError("")) == "RuntimeError"
