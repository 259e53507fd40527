"""The HTTP service over `serving.engine`: Starlette routes, on Granian or in BentoML.

app         routes and middleware, in the order in which a request passes them
server      `ganymede serve`: checks, then Granian
service     the BentoML service around the application
endpoints   images on request, images by URL, models, health
http        what every request and reply has in common
access      API keys, rate limit, admission control
telemetry   metrics, logs, traces
web         the playground and the API reference
"""
