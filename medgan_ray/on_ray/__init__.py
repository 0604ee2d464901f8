"""The one room that imports Ray: it places a verb on a cluster, and holds the plugin's own face.

    session.py     start or join a Ray instance; every private name of Ray that is touched
    settings.py    the configuration's sections ``ray``, ``tune`` and ``serve``
    train.py       the per-rank training function on Ray Train; GANTrainer
    tune.py        a search, each trial an ordinary run
    serve.py       the HTTP service on Ray Serve
    submit.py      any verb as a Ray job

Nothing here is imported before it is needed: Ray reads its environment when it is imported, and ``session.prepare``
sets it first.
"""
