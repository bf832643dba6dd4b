"""Progress: the phases of a run, and how a terminal, a notebook or a log shows them."""
