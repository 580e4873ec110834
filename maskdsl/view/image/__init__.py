"""Pictures as files: a scene as data, and what writes it as SVG, PDF or PNG."""
