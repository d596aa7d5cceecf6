"""Every claim is proved as it stands, and its proof fails when the claim is altered."""

import inspect
from collections.abc import Mapping
from typing import Any

import pytest
import sympy
from sympy import Rational, S, exp, log, oo, sqrt

from derivations import (
    calibration,
    conventions,
    entropy,
    families,
    js_printed,
    motivation,
    proposition_2,
    proposition_3,
    rkl_fkl_js,
    saturation,
    smooth_ece,
    stable_forms,
    tempered,
    tilted,
)
from derivations.ledger import PROVERS, Prover, claims
from derivations.notation import (
    Generator,
    N,
    Slope,
    alpha,
    epsilon,
    force,
    i,
    label,
    m,
    mean,
    own,
    p,
    p_k,
    q,
    q_,
    t,
    tau_1,
    tau_2,
    total,
    w_k,
)
from derivations.notation import tempered as tempered_mean
from derivations.proof import ProofFailed

JS_WEIGHT = p / 2 * log(p / m)


def changed(table: Mapping[Any, Any], key: Any, value: Any) -> dict[Any, Any]:
    """The table with one entry replaced."""
    assert key in table
    return {**table, key: value}


# One row per wrong claim: the function that proves it, and what is changed.
ALTERED: tuple[tuple[Prover, dict[str, Any]], ...] = (
    # The motivation
    (motivation.vanishing_gradient, {"upper": S(3)}),
    (motivation.differentiable_loss, {"jump": 1 + 2 * motivation.confidence}),
    (motivation.overconfidence_weakens, {"turn": 1 + exp(t) + t * exp(t)}),
    (motivation.js_strengthens, {"rises": True}),
    (motivation.predicted_image, {"extra": -motivation.EXTRA}),
    (motivation.predicted_image, {"extra": motivation.EXTRA / 2}),
    (motivation.one_scale, {"scale": 1 + alpha * motivation.force_y / (1 - motivation.p_y)}),
    (motivation.one_scale, {"scale": 1 - alpha * motivation.force_y}),
    # Proposition 2
    (proposition_2.divergence_gradient, {"weight": -p * Slope(p / q)}),
    (proposition_2.divergence_gradient, {"weight": 2 * p * Slope(p / q)}),
    (proposition_2.divergence_gradient, {"weight": p * Slope(q / p)}),
    (proposition_2.divergence_gradient, {"weight": q * Slope(p / q)}),
    (proposition_2.divergence_gradient, {"g": own}),
    (proposition_2.divergence_gradient, {"g": own + mean}),
    (proposition_2.score_gradient, {"claimed": tau_1 * label - tau_2 * tempered_mean + alpha * force}),
    (proposition_2.score_gradient, {"claimed": tau_1 * label - tempered_mean - alpha * force}),
    (proposition_2.score_gradient, {"claimed": tau_2 * label - tau_1 * tempered_mean - alpha * force}),
    (proposition_2.nonnegativity, {"tangent": t}),
    (proposition_2.nonnegativity, {"tangent": t + 1}),
    (proposition_2.centred_gradients, {"under": q_[i]}),
    (proposition_2.centred_gradients, {"under": S.One}),
    (proposition_2.gauge, {"linear_part": proposition_2.c * t}),
    (proposition_2.gauge, {"linear_part": proposition_2.c * (t**2 - 1)}),
    (proposition_2.gauge, {"linear_part": proposition_2.c * (t - 2)}),
    (proposition_2.homogeneity, {"degree": S.Zero}),
    (proposition_2.homogeneity, {"degree": S(2)}),
    (proposition_2.hessian, {"curvature": 2 * proposition_2.scale}),
    (proposition_2.targeted, {"power": proposition_2.p_[proposition_2.i]}),
    (proposition_2.logit_form, {"claimed": w_k}),
    (proposition_2.logit_form, {"claimed": p_k * total - w_k}),
    (proposition_2.logit_form, {"claimed": w_k - total / N}),
    # The tempered log-probability
    (tempered.decomposition, {"free": tau_1}),
    (tempered.decomposition, {"free": tau_2 - tau_1}),
    (tempered.tempered_gradient, {"claimed": tau_1 * label - tempered_mean}),
    (tempered.tempered_gradient, {"claimed": tau_1 * label + tau_2 * tempered_mean}),
    (tempered.tempered_gradient, {"claimed": label - tau_2 * tempered_mean}),
    (tempered.normalisation, {"joint": tau_2}),
    (tempered.normalisation, {"marginal": tau_2}),
    # RKL, FKL, JS
    (rkl_fkl_js.rkl_weight, {"claimed": q}),
    (rkl_fkl_js.rkl_weight, {"claimed": -p}),
    (rkl_fkl_js.rkl_weight, {"gauged": q - p}),
    (rkl_fkl_js.rkl_gradient, {"claimed": mean - rkl_fkl_js.target_mean}),
    (rkl_fkl_js.rkl_gradient, {"claimed": rkl_fkl_js.target_mean}),
    (rkl_fkl_js.rkl_is_cross_entropy, {"claimed": -p * log(q) + q * log(q)}),
    (rkl_fkl_js.rkl_is_cross_entropy, {"claimed": -q * log(p) + p * log(q)}),
    (rkl_fkl_js.rkl_is_cross_entropy, {"claimed": -q * log(p) - q * log(q)}),
    (rkl_fkl_js.fkl_weight, {"claimed": q * log(p / q)}),
    (rkl_fkl_js.fkl_weight, {"claimed": p * log(q / p)}),
    (rkl_fkl_js.fkl_weight, {"claimed": p * (log(p / q) + 1)}),
    (rkl_fkl_js.fkl_is_entropy, {"claimed": log(N) + rkl_fkl_js.H}),
    (rkl_fkl_js.fkl_is_entropy, {"claimed": -rkl_fkl_js.H}),
    (rkl_fkl_js.js_weight, {"claimed": p * log(p / m)}),
    (rkl_fkl_js.js_weight, {"claimed": q / 2 * log(q / m)}),
    (rkl_fkl_js.js_weight, {"claimed": (q - p) / m}),
    (rkl_fkl_js.js_weight_bounds, {"lower": -q / 10}),
    (rkl_fkl_js.js_weight_bounds, {"upper": p * log(2) / 4}),
    # The printed JS weight: here the altered claims are true, or wrong about what the weight is instead
    (js_printed.as_printed, {"weight": JS_WEIGHT}),
    (js_printed.as_printed, {"weight": -p / 2 * (q - p) / m}),
    (js_printed.as_printed, {"weight": -q}),
    (js_printed.bounded, {"bound": S.One}),
    (js_printed.bounded, {"bound": Rational(19, 10)}),
    (js_printed.as_derivative, {"slope": 2 * (1 - t) / (t + 1)}),
    (js_printed.as_derivative, {"slope": 2 * (t - 1) / (t * (t + 1))}),
    (js_printed.as_derivative, {"turning_point": S.One + sqrt(3)}),
    (js_printed.rescaled, {"factor": p / 2}),
    (js_printed.rescaled, {"factor": -q / 2}),
    (js_printed.rescaled, {"multiple": S.One}),
    (js_printed.potential, {"value": 2 * log(m / sqrt(p * q))}),
    (js_printed.potential, {"weight": (q - p) / m}),
    (js_printed.printed_sign, {"weight": (p - q) / m}),
    (js_printed.printed_sign, {"weight": JS_WEIGHT}),
    (js_printed.at_one_hot, {"others": -S(2)}),
    (js_printed.at_one_hot, {"others": S.Zero}),
    (js_printed.at_one_hot, {"vertex": -2 * N}),
    # Saturation
    (saturation.saturation, {"on_others": saturation.L}),
    (saturation.saturation, {"on_others": -saturation.q_i * saturation.L}),
    (saturation.saturation, {"on_vertex": -saturation.L}),
    (saturation.saturation, {"on_vertex": (1 - saturation.q_k) * saturation.L}),
    (saturation.exponents, {"claimed": changed(saturation.EXPONENTS, "js", (-S.One, -S.One))}),
    (saturation.exponents, {"claimed": changed(saturation.EXPONENTS, "rkl", (S.Zero, S.Zero))}),
    (saturation.exponents, {"claimed": changed(saturation.EXPONENTS, "rkl", (S.One, -S.One))}),
    (saturation.exponents, {"claimed": changed(saturation.EXPONENTS, "neyman", (-oo, -S.One))}),
    (
        saturation.exponents,
        {"alpha_family": changed(saturation.ALPHA_EXPONENTS, saturation.BETWEEN, (S.Zero, S.Zero))},
    ),
    (saturation.the_three, {"survivors": frozenset({"rkl", "js"})}),
    (saturation.the_three, {"survivors": frozenset({"fkl"})}),
    (saturation.the_three, {"survivors": frozenset()}),
    (saturation.tempered_saturation, {"on_label": S.Zero}),
    (saturation.tempered_saturation, {"on_wrong_class": S.Zero}),
    (saturation.tempered_saturation, {"on_wrong_class": tau_2}),
    # The families with total variation at an end
    (families.softening, {"gap": families.h}),
    (families.softening, {"gap": families.h / 4}),
    (families.power_means, {"members": changed(families.POWER_MEANS, S.One, (S.One, "js"))}),
    (families.power_means, {"members": changed(families.POWER_MEANS, S.Half, (S.Half, "hellinger"))}),
    (families.power_means, {"members": changed(families.POWER_MEANS, S(2), (S.One, "perimeter"))}),
    (families.power_means, {"members": changed(families.POWER_MEANS, oo, (S(2), "total_variation"))}),
    (families.puri_vincze, {"members": changed(families.PURI_VINCZE, S.One, (S(2), "total_variation"))}),
    (families.puri_vincze, {"members": changed(families.PURI_VINCZE, S(2), (S.One, "triangular"))}),
    (families.puri_vincze, {"power": families.k - 1}),
    # Proposition 3: the stated pull altered to the right one leaves nothing to correct
    (proposition_3.proposition_3, {"marginals": (7 * tau_2, alpha)}),
    (proposition_3.proposition_3, {"marginals": (tau_2, -3 * alpha)}),
    (proposition_3.proposition_3, {"stated": proposition_3.ENHANCED_PULL + proposition_3.MISSING}),
    (proposition_3.proposition_3, {"corrected": proposition_3.ENHANCED_PULL}),
    (proposition_3.proposition_3, {"corrected": proposition_3.ENHANCED_PULL - proposition_3.MISSING}),
    (proposition_3.proposition_3, {"diversity": alpha * (1 - epsilon) / (proposition_3.K - 1)}),
    (proposition_3.position_cancels, {"coefficient": S.One}),
    (proposition_3.position_cancels, {"outward": -proposition_3.DIVERSITY}),
    # The tilted score
    (tilted.tilted_gradient, {"share": exp(-tilted.t * tilted.own) / tilted.Z}),
    (tilted.tilted_gradient, {"share": exp(tilted.own) / tilted.Z}),
    (tilted.tilted_gradient, {"share": 1 / tilted.B}),
    (tilted.tilted_limits, {"at_zero": tilted.B * tilted.MEAN}),
    (tilted.tilted_limits, {"at_infinity": tilted.LOWEST}),
    (tilted.tilted_limits, {"at_minus_infinity": tilted.highest}),
    (tilted.tilted_favours, {"doubtful": (7, 5)}),
    (tilted.tilted_favours, {"odds": exp(tilted.t * (tilted.other - tilted.own))}),
    (tilted.tilted_favours, {"odds": exp(tilted.own - tilted.other)}),
    (tilted.tilted_batch_factor, {"factor": S.One}),
    (tilted.tilted_batch_factor, {"factor": 1 / tilted.B}),
    (tilted.batch_of_one, {"score": tilted.t * tilted.own}),
    # Entropy
    (entropy.entropy_gradient, {"claimed": p_k * (log(p_k) + entropy.H)}),
    (entropy.entropy_gradient, {"claimed": -p_k * (log(p_k) + 1)}),
    (entropy.entropy_gradient, {"claimed": -p_k * (log(p_k) - entropy.H)}),
    (entropy.entropy_saturation, {"component": -(log(p_k) + entropy.H)}),
    (entropy.entropy_saturation, {"component": -p_k * (log(p_k) + 1)}),
    # Smooth ECE
    (smooth_ece.bins_cancel, {"share": 1 / sympy.Function("n")(sympy.Symbol("m", integer=True, positive=True))}),
    (smooth_ece.bins_cancel, {"share": S(2)}),
    (smooth_ece.loss_gradient, {"claimed": -smooth_ece.LOGIT_GRADIENT}),
    (smooth_ece.loss_gradient, {"claimed": smooth_ece.LOGIT_GRADIENT / smooth_ece.confidence}),
    (
        smooth_ece.loss_gradient,
        {"claimed": smooth_ece.LOGIT_GRADIENT.subs(smooth_ece.delta, 1 - smooth_ece.delta)},
    ),
    (smooth_ece.loss_bounds, {"lower": sqrt(smooth_ece.beta)}),
    (smooth_ece.loss_bounds, {"upper": S.Zero}),
    (smooth_ece.loss_bounds, {"upper": sqrt(smooth_ece.beta) / 2}),
    (smooth_ece.bounds_binned_error, {"scale": S.Half}),
    (smooth_ece.not_proper, {"overconfident": False}),
    (smooth_ece.not_proper, {"solved": -smooth_ece.SOLVED}),
    (smooth_ece.minimiser_limits, {"wide": S.Half}),
    (smooth_ece.minimiser_limits, {"narrow": smooth_ece.c}),
    (smooth_ece.minimiser_limits, {"first_order": 1 - sqrt(smooth_ece.beta) * (1 - smooth_ece.c)}),
    (smooth_ece.smoothing_for_bias, {"product": smooth_ece.BIAS_TIMES_BETA / 2}),
    (smooth_ece.smoothing_for_bias, {"proper": smooth_ece.d**4}),
    # The binned loss, and smECE
    (calibration.binned_loss_bounds, {"floor": 2 * calibration.FLOOR}),
    (calibration.binned_loss_bounds, {"largest": S.Half}),
    (calibration.binned_loss_gradient, {"claimed": -calibration.BINNED_SLOPE}),
    (
        calibration.binned_loss_gradient,
        {"claimed": calibration.BINNED_SLOPE.subs(calibration.share(calibration.confidence).diff(), 0)},
    ),
    (calibration.cosine_kernel, {"damping": calibration.DAMPING**2}),
    (calibration.cosine_kernel, {"damping": calibration.DAMPING.subs(calibration.sigma, 2 * calibration.sigma)}),
    (calibration.smooth_error_decreases, {"second": calibration.sigma + calibration.tau}),
    (calibration.smooth_error_gradient, {"bound": calibration.LIPSCHITZ - 1}),
    (calibration.smooth_error_gradient, {"bound": calibration.LIPSCHITZ / 2}),
    (tempered.temperature_scaling, {"scaled": (tau_1 * tempered.T, tau_2 * tempered.T)}),
    (tempered.temperature_scaling, {"push": tau_2 - tau_1}),
    # Conventions and the source's numbers: here too a true statement leaves nothing to refute
    (conventions.names_swapped, {"rkl": conventions.FKL, "fkl": conventions.RKL}),
    (conventions.mode_covering, {"covering": conventions.FKL, "seeking": conventions.RKL}),
    (conventions.mode_covering, {"seeking": conventions.JS}),
    (conventions.label_weight, {"target": conventions.SMOOTHED.subs(epsilon, 1 - epsilon)}),
    (conventions.label_weight, {"target": conventions.SMOOTHED - epsilon / N}),
    (conventions.undefined_at_hard_label, {"claimed": changed(conventions.ON_EMPTY_TARGET, "fkl", S.One)}),
    (conventions.undefined_at_hard_label, {"claimed": changed(conventions.ON_EMPTY_TARGET, "rkl", oo)}),
    (conventions.undefined_at_hard_label, {"claimed": changed(conventions.ON_EMPTY_TARGET, "js", S.One)}),
    (conventions.smooth_ece_gain, {"relative": Rational("0.03")}),
    (conventions.js_over_rkl, {"gap": Rational("0.02")}),
    (conventions.comparison_row, {"classifiers": frozenset({"JS"})}),
    (conventions.supports, {"least": (1 - epsilon) / (N + 1)}),
    (conventions.summary_fid, {"order": ("RKL", "JS", "FKL")}),
    (conventions.fkl_precision_recall, {"sole_lowest_recall": False}),
    (conventions.js_balance, {"best_fid": "RKL"}),
    (conventions.js_balance, {"best_recall": "FKL"}),
    # Stable forms
    (stable_forms.pivot, {"claimed": stable_forms.own_p * stable_forms.own_h}),
    (stable_forms.pivot, {"claimed": stable_forms.own_p * (stable_forms.own_h + stable_forms.mean_h)}),
    (stable_forms.pivot, {"claimed": stable_forms.own_h - stable_forms.mean_h}),
    (stable_forms.value_bend, {"integrand": 2 * stable_forms.BENT}),
    (stable_forms.value_bend, {"integrand": -stable_forms.BENT}),
    (stable_forms.value_bend, {"integrand": stable_forms.Bend(stable_forms.s) * exp(stable_forms.u)}),
    (stable_forms.value_dual, {"dual": Generator(1 / t)}),
    (stable_forms.value_dual, {"dual": Generator(t) / t}),
    (stable_forms.value_integral, {"integrand": Slope(exp(stable_forms.s))}),
    (stable_forms.value_integral, {"integrand": -stable_forms.INTEGRAND}),
)


def name_of(prover: Prover) -> str:
    return f"{prover.__module__.rpartition('.')[2]}.{prover.__name__}"


@pytest.mark.parametrize("prover", PROVERS, ids=name_of)
def test_the_claim_is_proved_as_it_stands(prover: Prover) -> None:
    assert prover().id


@pytest.mark.parametrize(
    "prover, changes", ALTERED, ids=[f"{name_of(prover)}-{n}" for n, (prover, _) in enumerate(ALTERED)]
)
def test_the_proof_of_an_altered_claim_fails(prover: Any, changes: dict[str, Any]) -> None:
    ids = dict(zip(PROVERS, (claim.id for claim in claims()), strict=True))
    with pytest.raises(ProofFailed) as failure:
        prover(**changes)
    assert failure.value.claim_id == ids[prover]


def test_every_part_of_every_claim_is_altered_somewhere() -> None:
    stated = {(prover, name) for prover in PROVERS for name in inspect.signature(prover).parameters}
    altered = {(prover, name) for prover, changes in ALTERED for name in changes}
    assert {prover for prover, _ in stated} == set(PROVERS)
    assert altered == stated
