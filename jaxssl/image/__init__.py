"""Functions of one image: boxes, colors, augmentation, pooling over regions."""
