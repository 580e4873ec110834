"""What expressions read beside tokens: entries of sparse inputs, vectors and their products, scores of groups, fixed random numbers."""
