"""One reader and one writer for each kind of file, written whole or not at all."""
