"""Search for better settings of one stage, judged by validation alone."""
