"""A decoding process that never ends with a scan; run by ``python -m tests.dicom.sleeper LIMIT_BYTES``."""

import time

from medgan_ray.dicom.sandbox import serve


def main() -> None:
    serve(lambda told: lambda facts, values: time.sleep(600))  # type: ignore[arg-type, return-value]


if __name__ == "__main__":
    main()
