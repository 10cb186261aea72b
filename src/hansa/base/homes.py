"""Where the built-in components live, by kind, and the files of settings; and what was renamed."""

from __future__ import annotations

# Where the built-in components of a kind live; imported when a name of that kind is first asked
# for. A star stands for every module of a room: of those only the one that has the name's own is
# imported, where there is one.
ROOMS: dict[str, tuple[str, ...]] = {
    "data": ("hansa.data",),
    "partition": ("hansa.data",),
    "marker": ("hansa.data",),
    "cohorts": ("hansa.data",),
    "model": ("hansa.models",),
    "metric": ("hansa.metrics",),
    "topology": ("hansa.topology",),
    "codec": ("hansa.codec",),
    "rule": ("hansa.ensemble.*",),
    "aggregator": ("hansa.ensemble.aggregators.*",),
    "attack": ("hansa.ensemble.attacks", "hansa.ensemble.colluding_attacks"),
    "privacy": ("hansa.privacy.*",),
    "optimizer": ("hansa.engine",),
    "schedule": ("hansa.engine",),
    "budget": ("hansa.engine",),
    "augmentation": ("hansa.engine",),
    "clock": ("hansa.engine",),
    "profiles": ("hansa.engine",),
    "availability": ("hansa.engine",),
    "algorithm": (
        "hansa.learn.gossip.*",
        "hansa.learn.federated.*",
        "hansa.learn.secure.*",
        "hansa.recommend.rex",
        "hansa.recommend.rex_async",
    ),
    "judge": ("hansa.recommend.evaluation.ratings_judge",),
    "sampler": ("hansa.learn.federated.*",),
    "server": ("hansa.learn.federated.*",),
    "forgetting": ("hansa.forget",),
    "baseline": ("hansa.combine.ensemble.baselines.*",),
    "population": ("hansa.audit.populations.*",),
    "disparity": ("hansa.audit.disparity",),
    "black_box": ("hansa.audit.boxes.*",),
    "encoder": ("hansa.route.encoders.*",),
    "association": ("hansa.route.association",),
    "routed_tasks": ("hansa.route.sources.*",),
    "routing_method": ("hansa.route.methods.*",),
    "merge_tasks": ("hansa.combine.merge.tasks.*",),
    "clients": (
        "hansa.infer.robust.trained_clients",
        "hansa.infer.robust.cached_scores",
        "hansa.combine.ensemble.asked_members",
    ),
    "learned_aggregator": ("hansa.infer.robust.deep_set",),
    "inference_attack": ("hansa.infer.robust.attacks.*",),
    "extraction": ("hansa.infer.private.redteam.attacks.*",),
    "merging": ("hansa.combine.merge.algorithms.*",),
    "runtime": ("hansa.engine",),
    "channel": ("hansa.engine.links.vouching", "hansa.attest.*"),
    "attester": ("hansa.attest.attesters.*",),
    "sink": ("hansa.report.sinks.*",),
    "product": (
        "hansa.experiment.learned_product",
        "hansa.recommend.recommend_product",
        "hansa.combine.ensemble.ensemble_product",
        "hansa.combine.merge.merge_product",
        "hansa.route.route_product",
        "hansa.infer.robust.robust_product",
        "hansa.infer.private.private_product",
        "hansa.infer.private.redteam.redteam_product",
        "hansa.audit.audit_product",
    ),
    "page": (
        "hansa.report.run_page",
        "hansa.learn.gossip.page",
        "hansa.learn.federated.page",
        "hansa.learn.federated.hierarchical_page",
        "hansa.combine.ensemble.page",
        "hansa.combine.merge.page",
        "hansa.forget.page",
        "hansa.infer.robust.page",
        "hansa.infer.private.page",
        "hansa.infer.private.redteam.page",
        "hansa.recommend.page",
        "hansa.route.page",
        "hansa.audit.page",
    ),
}

FILES = (
    "hansa.experiment.runfile",
    "hansa.recommend.recommend_file",
    "hansa.combine.ensemble.ensemble_file",
    "hansa.combine.merge.merge_file",
    "hansa.infer.robust.robust_file",
    "hansa.route.route_file",
    "hansa.audit.audit_file",
    "hansa.infer.serving.serve_file",
    "hansa.infer.private.private_file",
    "hansa.infer.private.redteam.redteam_file",
    "hansa.experiment.sites.site_file",
    "hansa.experiment.sweep.sweep_file",
)
"""The modules that define files of settings; a file without a verb is the first one's. Others come
by the entry point ``hansa.file`` or as plugins."""
RENAMED = {
    ("forgetting", "s2u"): "downweight: it is our own formula, not the paper's S2U",
}
"""What former names are called now, by kind."""
