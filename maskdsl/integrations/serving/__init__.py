"""What a serving engine needs of patterns: layers over its pages, and which pages nobody reads. Imports no engine."""
