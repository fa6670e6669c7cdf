"""`python -m bike_cli`, and the console script `bike`."""

import os

from bike_cli.cli.app import app


def run() -> None:
    """Run the command line."""
    # torch's threads wait for each other by spinning, which on a busy machine makes a small model several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    app(prog_name="bike")


if __name__ == "__main__":
    run()
