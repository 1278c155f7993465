"""The annotator: the page on which a person draws, tracks, corrects and exports, and what of it needs a server."""
