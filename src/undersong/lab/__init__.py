"""What reproduces the paper, tunes and generates; the command line alone imports it."""
