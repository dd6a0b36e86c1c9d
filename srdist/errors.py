"""What a user did or met, in one line: the command line prints it and exits, without a traceback."""


class UserError(ValueError):
    """The call or an input is wrong: the message names the file or field, what was found and what was expected.

    The command line prints the message as one line and exits with `exit_code`, 2.
    """

    exit_code = 2


class WorkError(UserError):
    """The call was right, but something in the work failed or was skipped: exit code 1."""

    exit_code = 1
