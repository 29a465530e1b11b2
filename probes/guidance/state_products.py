"""Inner products at one visited state, by which any number of rules are compared there.

at = StateProducts(cond, uncond, x, recorded)
at.of_combination(combination)      # a rule whose prediction is known by its factors: no pixels are looked at
at.of_prediction(guided)            # any other rule
"""

import torch
from torch import Tensor

from scorescope.probes.decomposition.gram import gram
from scorescope.probes.decomposition.products import GUIDED_PRODUCTS, PAIRS, dot, rows_a_block
from scorescope.probes.guidance.combination import CANCELLED, Combination


class StateProducts:
    """Gram matrix of c = D_c, d = c - u, the recorded update a = g - c, e = x - c and ones, for unbounded data.

    Parameters
    ----------
    cond, uncond, x, recorded : Tensor, shape (batch, *shape)
        Denoised predictions D_c, D_u (None where it was not computed, NaN in samples that did not need it), state
        (variance exploding) and recorded guided prediction g.

    Attributes
    ----------
    products : dict of Tensor, shape (batch,), float64
        Those of `branch_products`, `cond_noise`, `cond_sum`, `update_sum` and `noise_sum` (see `chosen_products`), and
        `guided_sq` |g|^2.
    """

    def __init__(self, cond: Tensor, uncond: Tensor | None, x: Tensor, recorded: Tensor) -> None:
        self._cond, self._recorded, self._size = cond.double(), recorded.double(), cond[0].numel()
        branches = [cond] if uncond is None else [cond, uncond]
        noise = x.double() - self._cond
        found = gram([part.flatten(1) for part in (*branches, recorded, noise)])
        if uncond is None:
            missing = found.new_full((len(cond), 5, 5), torch.nan)
            kept = torch.tensor([0, 2, 3, 4], device=found.device)
            missing[:, kept[:, None], kept] = found
            found = missing
        found[:, 1] *= -1
        found[:, :, 1] *= -1
        self._gram = found.nan_to_num()  # a branch that is not known has a factor of zero
        place = {"c": 0, "d": 1, "e": 3, "1": 4}
        known = {name: pair for name, pair in PAIRS.items() if "u" not in pair}
        self.products = {name: found[:, place[pair[0]], place[pair[1]]] for name, pair in known.items()}
        cc, dd, dc = (self.products[name] for name in ("cond_sq", "update_sq", "update_cond"))
        self.products["uncond_sq"] = (cc - 2 * dc + dd).clamp(min=0)
        self.products["guided_sq"] = (cc + 2 * found[:, 0, 2] + found[:, 2, 2]).clamp(min=0)

    def of_combination(self, rule: Combination) -> dict[str, Tensor] | None:
        """What `of_prediction` says, from the factors of a rule; None where too many digits would cancel.

        That is where a prediction all but equals D_c or the recorded one, in any sample.
        """
        zero = torch.zeros_like(rule.cond)
        applied = torch.stack([rule.cond, rule.update, zero, rule.noise, zero], dim=1)
        differing = torch.stack([rule.cond, rule.update, zero - 1, rule.noise, zero], dim=1)
        (applied_sq, of_applied), (difference_sq, of_difference) = map(self._square, (applied, differing))
        if not bool(((applied_sq >= of_applied) & (difference_sq >= of_difference)).all()):
            return None
        along = torch.einsum("ni,nij->nj", applied, self._gram)
        found = {"applied_sq": applied_sq, "applied_cond": along[:, 0], "difference_sq": difference_sq}
        return self._complete(found, self._gram[:, 0, 4] + along[:, 4])

    def _square(self, factors: Tensor) -> tuple[Tensor, Tensor]:
        """|sum of factors times vectors|^2, and the least that it has to be not to be what was left by rounding."""
        terms = factors[:, :, None] * self._gram * factors[:, None]
        return terms.sum((1, 2)), CANCELLED * terms.diagonal(dim1=1, dim2=2).sum(1)

    def of_prediction(self, guided: Tensor) -> dict[str, Tensor]:
        """What rules are compared by, from a prediction g.

        Parameters
        ----------
        guided : Tensor, shape (batch, *shape)
            A rule's prediction, any floating dtype.

        Returns
        -------
        dict of Tensor, shape (batch,), float64
            `difference_sq` |g - recorded|^2, and `guided_products` of unbounded data of one channel or of latents.
        """
        parts = []
        for start in range(0, len(guided), rows_a_block(guided)):
            part = slice(start, start + rows_a_block(guided))
            g, c, recorded = (t[part].double().flatten(1) for t in (guided, self._cond, self._recorded))
            update, difference = g - c, g - recorded
            parts.append(torch.stack([dot(update, update), dot(update, c), dot(difference, difference), g.sum(1)]))
        *found, total = torch.cat(parts, dim=1)
        return self._complete(dict(zip(("applied_sq", "applied_cond", "difference_sq"), found, strict=True)), total)

    def _complete(self, found: dict[str, Tensor], total: Tensor) -> dict[str, Tensor]:
        """With the contrast, and with what such data do not have."""
        guided_sq = self._gram[:, 0, 0] + 2 * found["applied_cond"] + found["applied_sq"]
        contrast = (guided_sq / self._size - (total / self._size) ** 2).clamp(min=0).sqrt()
        missing = torch.full_like(contrast, torch.nan)
        return dict.fromkeys(GUIDED_PRODUCTS, missing) | found | {"contrast": contrast}
