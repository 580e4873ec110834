"""Every example at the largest setting of its paper or of its users: 64 Ki to 256 Ki tokens, 128 Ki of language.

`SETTINGS` has the parameters by file and pattern; what is not named keeps its default. Read by tests of scale.
"""

from collections.abc import Mapping

LANGUAGE = {"n": 131072}
IMAGE = {"h": 256, "w": 256}
"""FLUX at 4 Ki: 65,536 latent tokens."""
LARGE_IMAGE = {"h": 512, "w": 512}
"""8 Ki of it: 262,144 latent tokens."""
VIDEO = {"t": 30, "h": 48, "w": 80}
"""HunyuanVideo, 5 seconds of 720p: 115,200 latent tokens."""

SETTINGS: Mapping[str, Mapping[str, object]] = {
    "language/alibi: alibi": LANGUAGE,
    "language/bigbird: bigbird": LANGUAGE,
    "language/block_causal: block_causal": LANGUAGE,
    "language/causal: causal_dense": LANGUAGE,
    "language/combiner: combiner_fixed": LANGUAGE,
    "language/cross_attention: cross_attention": {"targets": 32768, "sources": 131072},
    "language/cross_attention: aligned": {"targets": 32768, "sources": 131072},
    "language/dense: dense": LANGUAGE,
    "language/dilated_window: dilated_window": LANGUAGE,
    "language/gemma: local_layer": LANGUAGE,
    "language/gemma: global_layer": LANGUAGE,
    "language/gemma: gemma2_layer": LANGUAGE,
    "language/global_sliding: global_sliding": LANGUAGE,
    "language/log_sparse: log_sparse": LANGUAGE,
    "language/longformer: longformer": LANGUAGE,
    "language/longlora: longlora": {"n": 131072, "group": 32768},
    "language/packed: packed": LANGUAGE,
    "language/packed: packed_full": LANGUAGE,
    "language/power: power": LANGUAGE,
    "language/prefix_lm: prefix_lm": {"n": 131072, "prefix": 16384},
    "language/prefix_lm: prefix_packed": LANGUAGE,
    "language/s2: s2": {"n": 131072, "stride": 16},
    "language/shared_question: shared_question": {"question": 65536, "answers": 16, "length": 4096},
    "language/sliding_window: sliding_window": {"n": 131072, "size": 4096},
    "language/sparse_transformer: strided": {"n": 131072, "stride": 256},
    "language/sparse_transformer: fixed": {"n": 131072, "stride": 256, "summary": 32},
    "language/stochastic: stochastic": LANGUAGE,
    "language/stochastic: causal_stochastic": LANGUAGE,
    "language/streaming: streaming": LANGUAGE,
    "language/t5: t5": LANGUAGE,
    "routing/core_context: core_context": LANGUAGE,
    "video/freeswim: inward": {"t": 8, "h": 96, "w": 160, "window": (48, 80)},
    "video/paro: paro": VIDEO,
    "video/sliding_tile: sliding_tile": VIDEO,
    "video/spatial_temporal: spatial": VIDEO,
    "video/spatial_temporal: temporal": VIDEO,
    "video/video_gna: hunyuan": VIDEO,
    "vision/agent: gather": IMAGE,
    "vision/agent: broadcast": IMAGE,
    "vision/axial: axial": IMAGE,
    "vision/clear: clear": {"text": 512, **LARGE_IMAGE, "radius": 16},
    "vision/crossformer: short": IMAGE,
    "vision/crossformer: long": IMAGE,
    "vision/cswin: cswin": IMAGE,
    "vision/davit: spatial": IMAGE,
    "vision/dinat: dinat": {**IMAGE, "kernel": (13, 13), "dilation": (16, 16)},
    "vision/gaussian_mask: gaussian_mask": IMAGE,
    "vision/gcvit: local": IMAGE,
    "vision/gcvit: global_query": IMAGE,
    "vision/halonet: halonet": IMAGE,
    "vision/hat: overlapping": IMAGE,
    "vision/hidiffusion: msw": {**IMAGE, "shift": 64},
    "vision/hilbert_window: hilbert_window": LARGE_IMAGE,
    "vision/hilbert_window: hilbert_layout": LARGE_IMAGE,
    "vision/hilo: hilo": IMAGE,
    "vision/lookup: gather": IMAGE,
    "vision/lookup: broadcast": IMAGE,
    "vision/maxvit: block": IMAGE,
    "vision/maxvit: grid": {**IMAGE, "size": 8},
    "vision/neighborhood: na1": LANGUAGE,
    "vision/neighborhood: na1_causal": LANGUAGE,
    "vision/neighborhood: na2": {**IMAGE, "kernel": (80, 80), "stride": (16, 16)},
    "vision/neighborhood: na3": {**VIDEO, "kernel": (18, 24, 24), "stride": (16, 8, 8)},
    "vision/neighborhood: na3_causal": {**VIDEO, "kernel": (18, 24, 24)},
    "vision/super_token: gather": IMAGE,
    "vision/super_token: broadcast": IMAGE,
    "vision/swin: swin": {**IMAGE, "size": 8, "shift": 4},
    "vision/swin_bias: swin_bias": {**IMAGE, "size": 8, "shift": 4},
    "vision/ultragen: ultragen": {**IMAGE, "size": 32, "ratio": 8},
    "vision/varying_window: varying_window": IMAGE,
}
