"""The HTTP service: BentoML and Starlette over `serving.engine`.

    bentoml serve serving.api.service:Ganymede

`operations` answers POST and `routes` GET; `schemas` is what they take, `replies` what they give back, `problems` what
they say when they cannot. `generators` holds the models, `gate` stands before every route, and `service` ties them to
BentoML.
"""
