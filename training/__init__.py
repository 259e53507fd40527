"""Training of generative adversarial networks: data -> networks -> trainer -> metrics -> export."""
