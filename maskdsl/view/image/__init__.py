"""Pictures in files: scenes as data, and writers for SVG, PDF and PNG."""
