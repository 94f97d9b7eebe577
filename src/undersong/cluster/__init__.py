"""Beyond one machine: the same stages, shared out among processes and nodes."""
