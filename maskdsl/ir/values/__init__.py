"""What expressions read beside tokens: entries of sparse inputs, vectors and their products, fixed random numbers."""
