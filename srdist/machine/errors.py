"""What a user did or met, in one line: printed without a traceback, and the exit code that goes with it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from srdist.machine.launcher import Launch
from srdist.machine.redaction import redacted, url_in


class UserError(ValueError):
    """The call or an input is wrong: the message names the file or field, what was found and what was expected.

    The command line prints the message as one line and exits with `exit_code`, 2.
    """

    exit_code = 2


class WorkError(UserError):
    """The call was right, but something in the work failed or was skipped: exit code 1."""

    exit_code = 1


class OwnError(WorkError):
    """Met by this rank alone, whatever became of the others: told by whichever rank meets it."""


def refuse_url(place: str, expected: str) -> None:
    """Refuse a URL where only places of this machine are read or written, without its password.

    Raises:
        UserError: `place` is a URL.
    """
    if (url := url_in(place)) is not None:
        raise UserError(f"{url}: is a URL; {expected}")


class LostPeerError(OwnError):
    """Another rank is gone: each rank that is left tells it, since the first one may be the one that died."""


_ADVICE = {
    errno.ENOSPC: ": free some room and run the same command again",
    errno.EDQUOT: ": free some room and run the same command again",
    errno.EACCES: ": check the owner and mode of the file or folder",
    errno.EROFS: ": choose a folder that can be written to",
}


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turn a UserError, an operating system's error or an interrupt into one line on stderr and an exit code.

    Under a launcher the first rank of each machine speaks for it: what one rank meets is raised on all of them.
    """
    try:
        yield
    except OwnError as error:
        _fail(str(error), error.exit_code, by_every_rank=True)
    except UserError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output has gone (`srdist ... | head`): nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno is None:
            raise
        _fail(system_error(error), 1)


def system_error(error: OSError) -> str:
    """An operating system's error in one line: the file, what was wrong and what to do."""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror}{_ADVICE.get(error.errno or 0, '')}"


def _fail(message: str, exit_code: int, *, by_every_rank: bool = False) -> None:
    launch = Launch.of(os.environ)
    # What srun alone starts raises nothing on all: each speaks for itself.
    if by_every_rank or not launch.joins or launch.local_rank == 0:
        print(f"srdist: {redacted(' '.join(message.split()))}", file=sys.stderr, flush=True)
    sys.exit(exit_code)
