"""The report of runs as one page: a file of HTML that needs no network."""
