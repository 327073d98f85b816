"""The ``frostline`` command: sets up the process before torch is loaded, then runs ``frostline.cli``.

It stands beside the package because importing anything of ``frostline`` loads torch, and with it OpenMP, which reads its
environment once. As a library frostline leaves the environment alone.
"""

import os


def main() -> None:
    """Run the command line."""
    # Threads that wait actively starve each other once anything else runs on a core: a training of 3.5 s took 37 s beside
    # one busy process, and 3.5 s with this; on a quiet machine it changes nothing (two cores, torch 2.13, libgomp).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from frostline.cli import main as run

    run()
