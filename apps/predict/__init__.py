"""Predict: any detector and an associator over projects, datasets and videos of a server."""
