"""A run as one page of HTML: what was done, what was found, and what looks doubtful."""
