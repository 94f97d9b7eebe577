"""``python -m undersong`` is the command line."""

from undersong.cli.main import main

if __name__ == "__main__":
    main()
