"""Tables and a mapping file that says what their columns are."""
