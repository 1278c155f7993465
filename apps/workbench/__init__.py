"""The workbench: a Supervisely instance for one machine, its REST subset on SQLite and video files on disk."""
