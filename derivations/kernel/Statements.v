(* Every theorem that the ledger shows, in full and under its claim's name. The proofs are in the other files. *)
From mathcomp Require Import all_ssreflect.
From Coq Require Import Reals Lra.
From Coquelicot Require Import Coquelicot.
Require Import Definitions Sums Softmax Divergences Saturation Score Mixture SmoothECE Weights.
Set Implicit Arguments.
Unset Strict Implicit.
Local Open Scope R_scope.

(* The bounds of the correct form; the length is that of the vector over the classes, squared. *)
Theorem vanishing_gradient (class : finType) (p : class -> R) (y : class) :
  (forall i, 0 <= p i) -> sum p = 1 ->
  (1 - p y) ^ 2 <= sum (fun i => (indicator (i == y) - p i) ^ 2) <= 2 * (1 - p y) ^ 2.
Proof. exact: residual_length. Qed.

(* For any force F whose components sum to 0 and are alike, as p is, on the classes but y, of which i is one. *)
Theorem one_scale (class : finType) (F p : class -> R) (alpha : R) (y i : class) :
  (forall j, j != y -> F j = F i) -> (forall j, j != y -> p j = p i) -> i != y ->
  sum F = 0 -> sum p = 1 -> p y <> 1 ->
  forall j, indicator (j == y) - p j - alpha * F j = (1 - alpha * F y / (1 - p y)) * (indicator (j == y) - p j).
Proof. exact: Weights.one_scale. Qed.

(* Along any path of logits, as those of an image along a direction: f_i(u) has the slope v_i at x. The target is positive. *)
Theorem proposition_2_divergence (class : finType) (f : class -> R -> R) (v q : class -> R) (phi slope : R -> R) (x : R) :
  (forall i, is_derive (f i) x (v i)) -> (forall i, 0 < q i) -> (forall t, 0 < t -> is_derive phi t (slope t)) ->
  is_derive (fun u => divergence phi q (softmax (fun i => f i u))) x
    (sum (fun i => weight slope q (softmax (fun j => f j x)) i
                   * (v i - sum (fun j => softmax (fun l => f l x) j * v j)))).
Proof. exact: proposition_2_path. Qed.

(* Along any path of logits, as those of an image along a direction: f_i(u) has the slope v_i at x. The target is positive. *)
Theorem proposition_2 (class : finType) (f : class -> R -> R) (v q : class -> R) (phi slope : R -> R)
    (tau_joint tau_marginal alpha x : R) (y : class) :
  (forall i, is_derive (f i) x (v i)) -> (forall i, 0 < q i) -> (forall t, 0 < t -> is_derive phi t (slope t)) ->
  is_derive (fun u => score tau_joint tau_marginal alpha phi q (fun i => f i u) y) x
    (tau_joint * v y - tau_marginal * sum (fun k => softmax (fun i => tau_marginal * f i x) k * v k)
     - alpha * sum (fun i => weight slope q (softmax (fun j => f j x)) i
                             * (v i - sum (fun j => softmax (fun l => f l x) j * v j)))).
Proof. by move=> *; apply: score_path. Qed.

(* For any numbers v_i, the components of the gradients among them. *)
Theorem centred_gradients (class : finType) (p v : class -> R) :
  sum p = 1 -> sum (fun i => p i * (v i - sum (fun j => p j * v j))) = 0.
Proof. exact: Weights.centred_gradients. Qed.

(* The target is positive; both sum to 1. *)
Theorem gauge (class : finType) (q p : class -> R) (phi slope : R -> R) (c : R) :
  (forall i, 0 < q i) -> sum p = 1 -> sum q = 1 ->
  divergence (fun t => phi t + c * (t - 1)) q p = divergence phi q p
  /\ (forall k, force (fun t => slope t + c) q p k = force slope q p k).
Proof. by move=> *; split=> [|k]; [apply: gauge_value | apply: gauge_force]. Qed.

(* The slope of the second part is f'(t) = w(1, 1/t); whether it is that of a convex f is another question. *)
Theorem homogeneity (class : finType) :
  (forall (slope : R -> R) (q p : class -> R) (c : R) i, 0 < c -> 0 < q i ->
     weight slope (fun j => c * q j) (fun j => c * p j) i = c * weight slope q p i)
  /\ (forall w : R -> R -> R, (forall c a b, 0 < c -> 0 < a -> 0 < b -> w (c * a) (c * b) = c * w a b) ->
      exists slope, forall a b, 0 < a -> 0 < b -> w a b = a * slope (a / b)).
Proof.
split=> [slope q p c i|w hom]; first exact: weight_homogeneous.
by exists (fun t => w 1 (/ t)) => a b; apply: homogeneous_is_weight.
Qed.

(* The target is positive. The sum of the forces and the shift of the logits are the second and third part. *)
Theorem logit_gradient (class : finType) (q f : class -> R) (phi slope : R -> R) (k : class) :
  (forall i, 0 < q i) -> (forall t, 0 < t -> is_derive phi t (slope t)) ->
  is_derive (fun u => divergence phi q (softmax (with_logit f k u))) (f k)
    (weight slope q (softmax f) k - softmax f k * sum (weight slope q (softmax f)))
  /\ sum (force slope q (softmax f)) = 0
  /\ (forall c, softmax (fun i => f i + c) = softmax f).
Proof.
move=> qpos dphi; split; first exact: Softmax.proposition_2.
by split=> [|c]; [apply: force_sums_to_zero; apply: softmax_total k | apply: softmax_shift].
Qed.

(* Along any path of logits. *)
Theorem tempered_gradient (class : finType) (f : class -> R -> R) (v : class -> R) (tau_joint tau_marginal x : R) (y : class) :
  (forall i, is_derive (f i) x (v i)) ->
  is_derive (fun u => tempered tau_joint tau_marginal (fun i => f i u) y) x
    (tau_joint * v y - tau_marginal * sum (fun k => softmax (fun i => tau_marginal * f i x) k * v k)).
Proof. by move=> *; apply: tempered_path. Qed.

(* For every number of classes, at least one: y is a class. *)
Theorem tempered_normalisation (class : finType) (tau_joint tau_marginal : R) (y : class) :
  (forall f : class -> R, sum (fun i => exp (tempered tau_joint tau_marginal f i)) = 1) <-> tau_joint = tau_marginal.
Proof. exact: (Score.tempered_normalisation tau_joint tau_marginal y). Qed.

(* Nothing is left out. *)
Theorem tempered_scaling (class : finType) (tau_joint tau_marginal temperature : R) (f : class -> R) (y : class) :
  temperature <> 0 ->
  tempered tau_joint tau_marginal (fun i => f i / temperature) y =
    tempered (tau_joint / temperature) (tau_marginal / temperature) f y.
Proof. exact: Weights.tempered_scaling. Qed.

(* The second term is (1 - tau_marginal) times the Renyi entropy of order tau_marginal. *)
Theorem tempered_decomposition (class : finType) (tau_joint tau_marginal : R) (f : class -> R) (y : class) :
  tempered tau_joint tau_marginal f y =
    tau_joint * ln (softmax f y) - ln (sum (fun j => exp (tau_marginal * ln (softmax f j))))
    + (tau_joint - tau_marginal) * ln (sum (fun j => exp (f j))).
Proof. exact: Score.tempered_decomposition. Qed.

(* The generator is -log t, as a slope; the second part is in the gauge. *)
Theorem rkl_weight (class : finType) (q p : class -> R) (k : class) :
  (forall i, 0 < p i) -> (forall i, 0 < q i) ->
  weight rkl_slope q p k = - q k /\ weight (fun t => rkl_slope t - rkl_slope 1) q p k = p k - q k.
Proof. exact: Weights.rkl_weight. Qed.

(* Along any path of logits, for any positive target. *)
Theorem rkl_gradient (class : finType) (f : class -> R -> R) (v q : class -> R) (x : R) :
  (forall i, is_derive (f i) x (v i)) -> (forall i, 0 < q i) -> sum q = 1 ->
  is_derive (fun u => - divergence rkl q (softmax (fun i => f i u))) x
    (sum (fun i => q i * v i) - sum (fun i => softmax (fun j => f j x) i * v i)).
Proof. by move=> *; apply: rkl_gradient_path => //; apply: rkl_derivative. Qed.

(* For any positive target; the smoothed label is one for epsilon below 1. *)
Theorem rkl_is_cross_entropy (class : finType) (q p : class -> R) :
  (forall i, 0 < p i) -> (forall i, 0 < q i) ->
  divergence rkl q p = - sum (fun i => q i * ln (p i)) - entropy q.
Proof. exact: rkl_value. Qed.

(* Nothing is assumed: where p or q is not positive, Coq's ln and division have values of no meaning. *)
Theorem fkl_weight (class : finType) (q p : class -> R) (k : class) :
  weight (fun t => fkl_slope t - fkl_slope 1) q p k = p k * ln (p k / q k).
Proof. exact: Weights.fkl_weight. Qed.

(* At least one class: y is one. *)
Theorem fkl_entropy (class : finType) (p : class -> R) (y : class) : (forall i, 0 < p i) -> sum p = 1 ->
  divergence fkl (fun _ => 1 / number class) p = ln (number class) - entropy p.
Proof. exact: (fkl_uniform y). Qed.

(* The slope is that of the generator, and 0 at 1. *)
Theorem js_weight (class : finType) (q p : class -> R) (k : class) :
  (forall i, 0 < p i) -> (forall i, 0 < q i) ->
  (forall t, 0 < t -> is_derive js t (js_slope t)) /\ js_slope 1 = 0
  /\ weight js_slope q p k = p k / 2 * ln (p k / ((p k + q k) / 2)).
Proof. by move=> ppos qpos; split; [apply: js_derivative | apply: Weights.js_weight]. Qed.

(* Both distributions are positive. *)
Theorem js_weight_bounds (class : finType) (q p : class -> R) (k : class) :
  (forall i, 0 < p i) -> (forall i, 0 < q i) -> - q k / 4 <= weight js_slope q p k <= ln 2 / 2 * p k.
Proof. exact: Weights.js_weight_bounds. Qed.

(* First: no slope gives it. Second: where two classes have the same ratio p/q other than 1 and p differs, no slope gives its force times anything but 0; three classes have such p and q. *)
Theorem js_weight_as_printed :
  (~ exists slope, forall a b, 0 < a -> 0 < b -> js_printed a b = a * slope (a / b))
  /\ (forall (class : finType) (q p : class -> R) (slope : R -> R) (scale : R) i j,
      (forall k, 0 < p k) -> (forall k, 0 < q k) -> p i / q i = p j / q j -> p i <> q i -> p i <> p j ->
      (forall k, scale * (js_printed (p k) (q k) - p k * sum (fun l => js_printed (p l) (q l))) = force slope q p k) ->
      scale = 0).
Proof.
split; first exact: (js_printed_is_no_weight).
by move=> class q p slope scale i j ppos qpos same off differ; apply: (js_printed_is_no_force ppos qpos same off differ).
Qed.

(* For single numbers p and q. *)
Theorem js_printed_bounded (a b : R) : 0 < a -> 0 < b -> Rabs (js_printed a b) < 2.
Proof. exact: Weights.js_printed_bounded. Qed.

(* In any filter in which p tends to one-hot at y; f' need not exist elsewhere. No gauge is needed. *)
Theorem saturation (point : Type) (filter : (point -> Prop) -> Prop) (proper : Filter filter) (class : finType)
    (p : point -> class -> R) (q : class -> R) (slope : R -> R) (L : R) (y : class) :
  (forall i, 0 < q i) -> sum q = 1 -> (forall z i, 0 < p z i) ->
  (forall k, filterlim (fun z => p z k) filter (locally (indicator (k == y)))) ->
  filterlim (fun t => t * slope t) (at_right 0) (locally L) -> continuous slope (1 / q y) ->
  forall k, filterlim (fun z => force slope q (p z) k) filter
    (locally (if k == y then - (1 - q y) * L else q k * L)).
Proof. exact: Saturation.saturation. Qed.

(* One way in which p tends to one-hot: a logit grows, the others stay. *)
Theorem saturation__of_a_logit (class : finType) (f : class -> R) (y k : class) :
  filterlim (fun x => softmax (with_logit f y x) k) (Rbar_locally p_infty) (locally (indicator (k == y))).
Proof. exact: softmax_tends_to_one_hot. Qed.

(* The limits L of the claim before, for the three slopes. *)
Theorem saturation_rkl_fkl_js :
  filterlim (fun t => t * rkl_slope t) (at_right 0) (locally (-1))
  /\ filterlim (fun t => t * fkl_slope t) (at_right 0) (locally 0)
  /\ filterlim (fun t => t * js_slope t) (at_right 0) (locally 0).
Proof. by split; [apply: rkl_end | split; [apply: fkl_end | apply: js_end]]. Qed.

(* Both distributions are positive; the generator is strictly convex and has a slope at 1. *)
Theorem nonnegativity (class : finType) (q p : class -> R) (phi : R -> R) (slope : R) :
  (forall i, 0 < q i) -> (forall i, 0 < p i) -> sum p = 1 -> sum q = 1 ->
  strictly_convex phi -> phi 1 = 0 -> is_derive phi 1 slope ->
  0 <= divergence phi q p /\ (divergence phi q p = 0 -> forall i, p i = q i).
Proof. by move=> qpos ppos ptot qtot *; apply: (divergence_nonnegative (c := slope)) => //; apply: above_tangent. Qed.

(* The same for the three divergences of the source. *)
Theorem nonnegativity__rkl_fkl_js (class : finType) (q p : class -> R) (phi : R -> R) :
  phi = rkl \/ phi = fkl \/ phi = js ->
  (forall i, 0 < q i) -> (forall i, 0 < p i) -> sum p = 1 -> sum q = 1 ->
  0 <= divergence phi q p /\ (divergence phi q p = 0 -> forall i, p i = q i).
Proof.
move=> which qpos ppos ptot qtot; case: which => [->|[->|->]].
- by apply: (divergence_nonnegative (c := -1)) => //; [apply: rkl_above | rewrite /rkl ln_1; ring].
- by apply: (divergence_nonnegative (c := 1)) => //; [apply: fkl_above | rewrite /fkl ln_1; ring].
- apply: (divergence_nonnegative (c := 0)) => //; first exact: js_above.
  have half : (1 + 1) / 2 = 1 by field.
  by rewrite /js half ln_1; field.
Qed.

(* One component a of the gradient; any number of classes and axes; the correct form, which has (1 - epsilon)/N of the label too. *)
Theorem proposition_3 (class axis : finType) (mean : class -> axis -> R) (x : axis -> R)
    (tau_joint tau_marginal alpha epsilon : R) (y : class) (a : axis) : 0 <= epsilon < 1 ->
  is_derive (fun u => score tau_joint tau_marginal alpha rkl (smoothed_target epsilon y)
                        (mixture_logit mean (with_logit x a u)) y) (x a)
    ((tau_joint + alpha * (epsilon + (1 - epsilon) / number class)) * (mean y a - x a)
     + alpha * (1 - epsilon) / number class * (sum (fun k => (mean k a - x a) * indicator (k != y)))
     - tau_marginal * (sum (fun k => softmax (fun i => tau_marginal * mixture_logit mean x i) k * (mean k a - x a)))
     - alpha * (sum (fun k => softmax (mixture_logit mean x) k * (mean k a - x a)))).
Proof. exact: Mixture.proposition_3. Qed.

(* One component of the mean and of the position; the second half of the claim is not in it. *)
Theorem proposition_3_position (class : finType) (p q mean : class -> R) (x : R) : sum p = 1 -> sum q = 1 ->
  sum (fun k => (q k - p k) * (mean k - x)) = sum (fun k => (q k - p k) * mean k).
Proof. exact: position_cancels. Qed.

(* The score itself, of which the density is the exponential; the last term is a constant. *)
Theorem rkl_target (class : finType) (q f : class -> R) (alpha : R) (y : class) : (forall i, 0 < q i) ->
  score 1 1 alpha rkl q f y =
    sum (fun i => (indicator (i == y) + alpha * q i) * ln (softmax f i)) + alpha * entropy q.
Proof. exact: Weights.rkl_target. Qed.

(* The finite type is that of the samples. *)
Theorem tilted_gradient (sample : finType) (tilt : R) (log_prob : sample -> R) (k : sample) : tilt <> 0 ->
  is_derive (fun u => ln (sum (fun b => exp (tilt * with_logit log_prob k u b)) / number sample) / tilt) (log_prob k)
    (softmax (fun b => tilt * log_prob b) k).
Proof. exact: Score.tilted_gradient. Qed.

(* In one logit. *)
Theorem entropy_gradient (class : finType) (f : class -> R) (k : class) :
  is_derive (fun u => entropy (softmax (with_logit f k u))) (f k)
    (- (softmax f k * (ln (softmax f k) + entropy (softmax f)))).
Proof. exact: Score.entropy_gradient. Qed.

(* The target is a distribution, and nothing of its limits. *)
Theorem epsilon_weighs_label (class : finType) (epsilon : R) (y : class) : 0 <= epsilon <= 1 ->
  (forall i, 0 <= smoothed_target epsilon y i) /\ sum (smoothed_target epsilon y) = 1.
Proof. exact: smoothed_target_distribution. Qed.

(* Every sample lies in one bin; the sums over the bins are weighed by what they hold. *)
Theorem smooth_ece_bins (sample bin : finType) (place : sample -> bin) (v : sample -> R) :
  sum (fun b : bin => sum (fun i => v i * indicator (place i == b))) = sum v.
Proof. exact: bins_cancel. Qed.

(* In one residual r = confidence - correct. *)
Theorem smooth_ece_gradient (beta r : R) : 0 < beta -> is_derive (smooth_error beta) r (r / smooth_error beta r).
Proof. by move=> *; apply: error_gradient. Qed.

(* For one residual r. *)
Theorem smooth_ece_bounds (beta r : R) : 0 < beta -> Rabs r <= smooth_error beta r <= Rabs r + sqrt beta.
Proof. by move=> *; apply: error_bounds. Qed.

(* The accuracy is above 1/2; the loss is expected over right and wrong answers. *)
Theorem smooth_ece_not_proper (beta accuracy : R) : 0 < beta -> 1 / 2 < accuracy < 1 ->
  exists best, accuracy < best < 1 /\
    forall a, a <> best -> expected_loss beta accuracy best < expected_loss beta accuracy a.
Proof. by move=> *; apply: best_confidence. Qed.

Definition everything := (@vanishing_gradient, @one_scale, @proposition_2_divergence, @proposition_2, @centred_gradients, @gauge, @homogeneity,
  @logit_gradient, @tempered_gradient, @tempered_normalisation, @tempered_scaling, @tempered_decomposition, @rkl_weight,
  @rkl_gradient, @rkl_is_cross_entropy, @fkl_weight, @fkl_entropy, @js_weight, @js_weight_bounds, @js_weight_as_printed,
  @js_printed_bounded, @saturation, @saturation__of_a_logit, @saturation_rkl_fkl_js, @nonnegativity, @nonnegativity__rkl_fkl_js,
  @proposition_3, @proposition_3_position, @rkl_target,
  @tilted_gradient, @entropy_gradient, @epsilon_weighs_label, @smooth_ece_bins, @smooth_ece_gradient,
  @smooth_ece_bounds, @smooth_ece_not_proper).
Print Assumptions everything.
