"""Where vectors go when they leave: one file per target (issue 5, exports)."""
