"""The commands, each a thin layer over one library function."""
