"""Where images come from: loaders, folders, .npz files, rendered critters, and the order in which a run sees them."""
