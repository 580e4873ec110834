"""A pattern as one HTML file that evaluates it: the data of the page, its assets, and what serves it while editing."""
