"""The shell command `deblur-hub`.

`arguments`      every command, its arguments and their help
`restoring`      deblur
`evaluating`     evaluate, compare, score
`benchmarking`   benchmark
`models`         networks, convert, release, card, verify, publish
`export`         export
`page`           demo, publish-space
`doctor`         doctor
"""

import io
import os
import sys
import warnings
from argparse import Namespace
from collections.abc import Sequence

from ..errors import DeblurHubError
from .arguments import parser
from .outcomes import INTERRUPTED, OK, print_error

__all__ = ["main", "parser"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 if all is well, 1 if some files of a batch failed, 2 if nothing was done."""
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal has no letters for ends no command
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module="PIL")  # what it finds damaged is said in our own words
    typed = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(typed, Namespace(typed=typed))
    try:
        return int(options.run(options))
    except DeblurHubError as mistake:
        return print_error(mistake)
    except KeyboardInterrupt:
        print("deblur-hub: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
