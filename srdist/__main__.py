"""`python -m srdist`, the `srdist` script and `accelerate launch -m srdist`: the commands.

What they import takes a while, in which an interrupt is one line too.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

from srdist.machine.system import refuse_other_systems


def main() -> None:
    """Run the command line."""
    refuse_other_systems()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stopped)
    from srdist.cli.main import main as commands

    commands()


def _stopped(number: int, _frame: FrameType | None) -> None:
    # No exception: what is being imported might make another of it.
    os.write(2, b"srdist: stopped (SIGINT)\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
