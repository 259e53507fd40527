"""Studies: what the parts of this package do, measured by training with them."""
