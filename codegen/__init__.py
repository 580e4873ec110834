"""The output as data: modules with marked holes, read as text by `maskdsl.emit`. Nothing to import."""
