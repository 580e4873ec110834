"""What is measured on a GPU: patterns at lengths and head dims, ours and others', checked against float64 first."""
