"""What every request and reply has in common: context, problems, content negotiation, validation, packed replies."""
