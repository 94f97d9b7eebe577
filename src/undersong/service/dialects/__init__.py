"""The service in the words of other programs, so that their clients need no change."""
