"""First contact with a GPU: steps in processes of their own, within a budget, whose results are lines of JSON."""
