"""``python -m undersong`` is the command line."""

import os
import sys

if sys.path[0] in (
    "",
    os.getcwd(),
):  # by ``-m``: what lies in the working folder is not ours to run
    del sys.path[0]

from undersong.cli.main import main

if __name__ == "__main__":
    main()
