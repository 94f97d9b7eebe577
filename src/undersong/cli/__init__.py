"""The commands, each a thin layer over one library function."""

from undersong.processors import set_threads

set_threads()  # before any command loads a library that reads the variables
