"""The ``frostline`` command, and ``python -m frostline``: prepares the process before anything loads torch, then runs."""

from frostline.process import prepare_process


def main() -> None:
    """Run the command line."""
    prepare_process()
    from frostline.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
