"""`python -m bike_cli`, and the console script `bike`."""

from bike_cli.cli.app import app


def run() -> None:
    """Run the command line."""
    app(prog_name="bike")


if __name__ == "__main__":
    run()
