"""Several catalogues as one: which of their items are the same artist or track."""
