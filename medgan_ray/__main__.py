"""``python -m medgan_ray``: the same as the command ``medgan-ray``."""

import sys

from medgan_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
