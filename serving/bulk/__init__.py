"""Ranges of addresses as files: from one picture to a hundred million, on one machine or many.

    from serving.bulk.job import plan
    from serving.bulk.engines import Local
    from serving.bulk.run import generate
    from serving.bulk.storage import Store

    engine = Local("models/dcgan-mnist")
    job = plan(engine.subject, n=1_000_000, seed=7)
    generate(job, Store("digits"), engine)

A directory holds the shards, `manifest.json` once all are there, and `_ganymede`: the settings it was begun with and
the statistics of each shard.
"""
