"""Our own network for masks. See network.py."""
