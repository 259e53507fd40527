"""The network families. Each file is one family: a `Config`, a `Generator` and a `Discriminator`.

Every generator has `fakes(n, labels, phase, style_mixing)`, the pictures a training step needs, and every discriminator
takes `(images, labels, phase)`; a family leaves alone what does not concern it.
"""

from training.networks import cgan, dcgan, stylegan

NETWORKS = {"dcgan": dcgan, "cgan": cgan, "stylegan": stylegan}
NetworkConfig = dcgan.Config | cgan.Config | stylegan.Config
