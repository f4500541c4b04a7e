"""The command ``demo``: a page in the browser that shows how the models of runs classify an image."""
