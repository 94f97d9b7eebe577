"""Where vectors go when they leave: a file for each target."""
