"""What stands below every stage: text and places in it, declared errors, caches, arguments of public functions."""
