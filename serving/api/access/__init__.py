"""Who may send requests, and how many: API keys, the rate limit, admission control."""
