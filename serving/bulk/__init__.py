"""Bulk generation: write ranges of addresses to files, on one machine or many.

    from serving.bulk.job import plan
    from serving.bulk.engines import Local
    from serving.bulk.run import generate
    from serving.bulk.storage import Store

    engine = Local("models/dcgan-mnist")
    job = plan(engine.subject, n=1_000_000, seed=7)
    generate(job, Store("digits"), engine)

A directory has the shards, `manifest.json` when all shards are complete, and `_ganymede`: the settings of the run and
the statistics of each shard.
"""
