"""Images on disk: how one is decoded, which of a folder count, sets of them with labels."""
