"""What a bound pattern means, as frozen data: expressions, masks, routes, stacks."""
