"""The operator `maskdsl::find`: what is found in queries and keys before attention, without gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskdsl.runtime.checks import check_inputs, check_sizes, check_tensors, check_values
from maskdsl.runtime.operators import LIBRARY
from maskdsl.runtime.recipes import Recipe
from maskdsl.runtime.recipes import find as find_recipe


def with_found(recipe: Recipe, q: Tensor, k: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """All inputs of the mask, those found behind those given."""
    return [*inputs, *FIND(q, k, inputs, recipe.handle)] if recipe.signature.finds else inputs


def find(q: Tensor, k: Tensor, inputs: Sequence[Tensor], handle: str) -> list[Tensor]:
    check_tensors(q, k, k, "declared")
    recipe = find_recipe(handle).bound(q.shape[2], k.shape[2])
    check_sizes(recipe.plan, q, k, k)
    check_inputs(recipe.plan.mask.given, inputs, q)
    check_values(recipe.plan.mask.given, inputs)
    return recipe.finder.find(q, recipe.first.all_keys(k), inputs)


def fake_find(q: Tensor, k: Tensor, inputs: Sequence[Tensor], handle: str) -> list[Tensor]:
    return find_recipe(handle).bound(q.shape[2], k.shape[2]).finder.blank(q)


LIBRARY.define("find(Tensor q, Tensor k, Tensor[] inputs, str handle) -> Tensor[]", tags=(torch.Tag.pt2_compliant_tag,))
FIND = torch.ops.maskdsl.find.default
LIBRARY.impl("find", find, "CompositeExplicitAutograd")
torch.library.register_fake("maskdsl::find", fake_find, lib=LIBRARY)
