"""The IR: bound patterns as frozen data. Expressions, masks, routes and stacks, made by `bind`, read by all later
stages."""
