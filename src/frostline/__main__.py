"""The ``frostline`` command, and ``python -m frostline``: prepares the process before anything loads torch, then runs."""

import signal

from frostline.process import prepare_process


def main() -> None:
    """Run the command line."""
    prepare_process()
    # A search that a cluster or a service ends lets go of what it has begun, as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from frostline.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
