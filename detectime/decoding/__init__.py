"""From the bytes of an image file to its pixels as stored: one module per way of decoding, and what is no image."""
