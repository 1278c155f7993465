"""A detector learned on the spot from a few labelled pictures, with no weights."""
