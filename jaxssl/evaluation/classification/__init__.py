"""Tasks on data sets with class labels."""
