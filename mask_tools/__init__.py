"""The offline half: segment a data set once, write images and regions to TFRecords."""
