"""Why two items are similar: what each source adds, what they share, what is not known."""
