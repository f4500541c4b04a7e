"""Image files: decoding, listing and layout of folders, labelled sets."""
