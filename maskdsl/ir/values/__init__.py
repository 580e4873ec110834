"""What expressions read beside tokens: sparse entries, vectors and their products, scores of groups, randomness."""
