"""The ``frostline`` command, and ``python -m frostline``: prepares the process before anything loads torch, then runs."""

import signal
import sys


def main() -> None:
    """Run the command line."""
    try:
        from frostline.process import prepare_process

        prepare_process()
        # A search that a cluster or a service ends lets go of what it has begun, as with Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        from frostline.cli.main import main as run

        run()
    except KeyboardInterrupt:
        # While the command line itself is loaded; afterwards it says more.
        from frostline.process import INTERRUPTED

        sys.stderr.write("frostline: stopped.\n")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
