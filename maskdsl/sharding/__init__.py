"""Attention of tokens and heads that several processes hold: carries out plans of `maskdsl.distributed`."""
