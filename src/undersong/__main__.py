"""``python -m undersong`` is the command line."""

from undersong.cli import main

if __name__ == "__main__":
    main()
