"""The functions that a generated module of routes selects by, of scores in rows: in plain torch."""

import torch


def argument(value, per):
    """The argument of a selector for the rows of pairs that compete, from its values for pairs of groups."""
    if not isinstance(value, torch.Tensor) or value.dim() < 2 or per == "query":
        return value
    match per:
        case "key":
            return value.transpose(-1, -2)
        case "key_of_all_heads":
            return value[..., :1, :, :].select(-3, 0).transpose(-1, -2) if value.dim() > 2 else value.transpose(-1, -2)
        case _:
            return value[..., :1, 0]


def chosen_best(s, count, forced):
    """The forced pairs, and the `count` best of the others less their number."""
    if forced is None:
        return best(s, count)
    room = (count - forced.sum(dim=-1, keepdim=True)).clamp(min=0)
    return forced | best(s.masked_fill(forced, -torch.inf), room)


def best(score, count):
    """The `count` highest scores of each row, as a mask; none of -inf, ties to the lower index."""
    columns = score.shape[-1]
    if isinstance(count, int):
        if count <= 4:
            return best_one_by_one(score, count)
        most, count = min(count, columns), torch.full((), count, device=score.device)
    else:  # `count.max()` would wait for a GPU
        most = min(int(count.max()), columns) if count.numel() and score.device.type == "cpu" else columns
    count = count.clamp(0, columns)
    if most <= 0:
        return torch.zeros_like(score, dtype=torch.bool)
    highest = score.topk(min(most + 1, columns), dim=-1).values
    positions = torch.stack([count - 1, count], dim=-1).clamp(0, highest.shape[-1] - 1)
    positions = positions.flatten(-2) if count.dim() > 1 else positions
    least, following = highest.gather(-1, positions.expand(*score.shape[:-1], 2)).unbind(dim=-1)
    least, following = least.unsqueeze(-1), following.unsqueeze(-1)
    chosen = (score >= least) & (score > -torch.inf) & (count > 0)
    tied = (least == following) & (least > -torch.inf) & (count < columns)
    if score.device.type == "cpu" and not bool(tied.any()):  # would wait for a GPU
        return chosen
    above = chosen & (score > least)
    equal = chosen & (score == least)
    room = count - above.sum(dim=-1, keepdim=True)
    return above | (equal & (equal.cumsum(dim=-1) <= room))


def best_one_by_one(score, count):
    """`best` for a small count, by repeated `max`, which returns the first of equal scores."""
    chosen = torch.zeros(score.shape, dtype=torch.bool, device=score.device)
    score = score.clone()
    for _ in range(min(count, score.shape[-1])):
        highest, position = score.max(dim=-1, keepdim=True)
        chosen.scatter_(-1, position, (highest > -torch.inf) | chosen.gather(-1, position))
        score.scatter_(-1, position, -torch.inf)
    return chosen


def best_columns(score, count):
    """The columns of `best`, in ascending order: [..., count]. Behind them the number of columns."""
    columns = score.shape[-1]
    if score.device.type != "cpu":
        return chosen_columns(best(score, count), count)
    highest, chosen = top_columns(score, min(count + 1, columns))
    tied = (highest[..., count - 1] == highest[..., -1]) & (highest[..., -1] > -torch.inf) & (count < columns)
    chosen = chosen[..., :count].masked_fill(highest[..., :count] == -torch.inf, columns).sort(dim=-1).values
    chosen[tied] = chosen_columns(best(score[tied], count), count)
    return chosen


def top_columns(score, count):
    """The highest scores of each row, in descending order, and columns of them, of equal scores any.

    Those of many columns are in the `count` sets of 16 columns whose highest scores are highest.
    """
    sets = score.shape[-1] // 16
    if sets < 4 * count:
        return score.topk(count, dim=-1)
    behind = torch.arange(16 * sets, score.shape[-1], device=score.device)
    best_sets = score[..., : 16 * sets].unflatten(-1, (16, sets)).amax(dim=-2).topk(count, dim=-1, sorted=False).indices
    of_sets = (best_sets.unsqueeze(-2) + torch.arange(0, 16 * sets, sets, device=score.device).unsqueeze(-1)).flatten(
        -2
    )
    columns = torch.cat([of_sets, behind.expand(*score.shape[:-1], -1)], dim=-1)
    highest, chosen = score.gather(-1, columns).topk(count, dim=-1)
    return highest, columns.gather(-1, chosen)


def chosen_columns(chosen, count):
    """The columns that are chosen in each row, bool [..., columns], `count` at most: as `best_columns` has them."""
    columns = chosen.shape[-1]
    slot = torch.where(chosen, chosen.cumsum(dim=-1) - 1, count)  # the last slot is for those that are not chosen
    result = torch.full((*chosen.shape[:-1], count + 1), columns, device=chosen.device)
    return result.scatter_(-1, slot, torch.arange(columns, device=chosen.device).expand(chosen.shape))[..., :count]


def heaviest(score, mass, forced=None, weighs=False, reach=True):
    """The fewest scores of this share of the weights of their row, as a mask: from the highest down; none of -inf.

    Weights are exponentials, or (`weighs`) the scores, zero where these are negative; all scores are taken if no weight
    is positive. `forced` ones are taken first. Without `reach`: the most that stay within the share, at least one. Ties
    go to the lower index.
    """
    ordered, positions = score.double().sort(dim=-1, descending=True, stable=True)
    fitting = ordered > -torch.inf
    m_i = ordered[..., :1]  # scores of +inf weigh the same
    weights = ordered.clamp(min=0) if weighs else torch.where(ordered == m_i, 0, ordered - m_i).exp()
    weights = torch.where(fitting, weights, 0)
    whole = weights.sum(dim=-1, keepdim=True)
    others, first = weights, torch.zeros_like(whole)
    if forced is not None:
        taken_first = forced.gather(-1, positions)
        first = torch.where(taken_first, weights, 0).sum(dim=-1, keepdim=True)
        others, fitting = torch.where(taken_first, 0, weights), fitting & ~taken_first
    after = first + others.cumsum(dim=-1)
    if reach:
        chosen = fitting & (after - others < mass * whole)
    else:
        leading = fitting & (fitting.cumsum(dim=-1) == 1)
        chosen = fitting & (after <= mass * whole)
        chosen |= leading if forced is None else leading & ~forced.any(dim=-1, keepdim=True)
    chosen = torch.where(whole > 0, chosen, fitting)
    result = torch.zeros_like(chosen).scatter(-1, positions, chosen)
    return result if forced is None else result | forced


def above(score, threshold, forced):
    """The scores that exceed the threshold, and the forced ones."""
    return score > threshold if forced is None else (score > threshold) | forced


def members(x, rows, size, present=None):
    """Each row selects the `size` vectors of the largest product; an integer of one bit a row says which selected it.

    x is [batch, heads, tokens, dim], rows [heads, clusters, dim]; only vectors `present`, bool [batch, heads, tokens],
    may be selected.
    """
    products = rows @ x.transpose(-1, -2)
    products = products.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    if present is not None:
        products = products.masked_fill(~present.unsqueeze(-2), -torch.inf)
    chosen = best(products, size)
    return (chosen.long() << torch.arange(rows.shape[-2], device=x.device).unsqueeze(-1)).sum(dim=-2)
