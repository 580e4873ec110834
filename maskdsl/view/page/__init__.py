"""A pattern as one HTML file that evaluates it: the data and assets of the page, and the server used while editing."""
