"""Weights that are part of the suite: made by `training`, whose cards tell how. Apache-2.0."""
