"""Tasks on data sets with a class or a depth for every pixel."""
