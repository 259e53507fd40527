"""The network families. Each file is one family: a `Config`, a `Generator` and a `Discriminator`.

Every generator has `fakes(z, labels, phase, style_mixing)`, the pictures a training step needs. Every discriminator
takes `(images, labels, phase)` to logits, and has `features` of the same, what its last layer sees. A family leaves
alone what does not concern it.
"""

from training.networks import cgan, dcgan, mlp, stylegan

NETWORKS = {"mlp": mlp, "dcgan": dcgan, "cgan": cgan, "stylegan": stylegan}
NetworkConfig = mlp.Config | dcgan.Config | cgan.Config | stylegan.Config
