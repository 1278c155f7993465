"""Published weights: what exists, under which licence, and whether this machine has it."""
