"""Encoders with weights: from files of other libraries, and into them."""
