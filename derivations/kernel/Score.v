(* The tempered score, the entropy, tilting, the weight printed for JS, and Proposition 3. *)
From mathcomp Require Import all_ssreflect.
From Coq Require Import Reals Lra FunctionalExtensionality.
From Coquelicot Require Import Coquelicot.
Require Import Definitions Sums Softmax Divergences.
Set Implicit Arguments.
Unset Strict Implicit.
Local Open Scope R_scope.

Section Score.

Variable class : finType.
Implicit Types (q p f v : class -> R) (k y : class) (phi slope : R -> R).

Lemma number_positive y : 0 < number class.
Proof. by rewrite /number; apply: lt_0_INR; apply/ltP; apply/card_gt0P; exists y. Qed.

Lemma ln_softmax f k : ln (softmax f k) = f k - ln (sum (fun j => exp (f j))).
Proof.
rewrite /softmax ln_div ?ln_exp //; first exact: exp_pos.
exact: total_positive k.
Qed.

Lemma exp_tempered tau_joint tau_marginal f y :
  exp (tempered tau_joint tau_marginal f y) = exp (tau_joint * f y) / sum (fun j => exp (tau_marginal * f j)).
Proof.
rewrite /tempered /Rminus exp_plus exp_Ropp exp_ln //.
exact: (total_positive (fun j => tau_marginal * f j) y).
Qed.

Lemma tempered_normalisation tau_joint tau_marginal y :
  (forall f, sum (fun i => exp (tempered tau_joint tau_marginal f i)) = 1) <-> tau_joint = tau_marginal.
Proof.
split=> [all|-> f].
  have := all (fun _ => 1); rewrite (sum_ext (G := fun _ => / number class * exp (tau_joint - tau_marginal))) => [|i].
    rewrite sum_const; have npos := number_positive y.
    have -> : number class * (/ number class * exp (tau_joint - tau_marginal)) = exp (tau_joint - tau_marginal).
      by field; lra.
    by rewrite -exp_0 => /exp_inv; lra.
  rewrite exp_tempered sum_const !Rmult_1_r /Rminus exp_plus exp_Ropp.
  have npos := number_positive i; have ep := exp_pos tau_marginal.
  by field; lra.
rewrite (sum_ext (G := softmax (fun i => tau_marginal * f i))) => [|i]; last by rewrite exp_tempered.
exact: (softmax_total _ y).
Qed.

(* The tempered score through p alone, but for the free energy. *)
Lemma tempered_decomposition tau_joint tau_marginal f y :
  tempered tau_joint tau_marginal f y =
    tau_joint * ln (softmax f y) - ln (sum (fun j => exp (tau_marginal * ln (softmax f j))))
    + (tau_joint - tau_marginal) * ln (sum (fun j => exp (f j))).
Proof.
set z := ln (sum (fun j => exp (f j))).
rewrite (sum_ext (F := fun j => exp (tau_marginal * ln (softmax f j)))
  (G := fun j => exp (- (tau_marginal * z)) * exp (tau_marginal * f j))) => [|j].
  rewrite sum_scale ln_mult; [|exact: exp_pos|exact: (total_positive (fun j => tau_marginal * f j) y)].
  by rewrite ln_exp ln_softmax -/z /tempered; ring.
by rewrite -exp_plus ln_softmax -/z; congr exp; ring.
Qed.

Lemma tempered_ignores_no_shift tau_joint tau_marginal f y c :
  tempered tau_joint tau_marginal (fun i => f i + c) y =
    tempered tau_joint tau_marginal f y + (tau_joint - tau_marginal) * c.
Proof.
rewrite /tempered (sum_ext (G := fun j => exp (tau_marginal * c) * exp (tau_marginal * f j))) => [|j].
  rewrite sum_scale ln_mult; [|exact: exp_pos|exact: (total_positive (fun j => tau_marginal * f j) y)].
  by rewrite ln_exp; ring.
by rewrite -exp_plus; congr exp; ring.
Qed.

Lemma entropy_gradient f k :
  is_derive (fun u => entropy (softmax (with_logit f k u))) (f k)
    (- (softmax f k * (ln (softmax f k) + entropy (softmax f)))).
Proof.
set p := softmax f.
have each i : is_derive (fun u => softmax (with_logit f k u) i * ln (softmax (with_logit f k u) i)) (f k)
    (p i * (indicator (i == k) - p k) * (ln (p i) + 1)).
  have dp : is_derive (fun u => softmax (with_logit f k u) i) (f k) (p i * (indicator (i == k) - p k)).
    apply: (derive_value (derive_softmax i (fun j => derive_with_logit f k j (f k)))).
    rewrite -[fun i => with_logit f k (f k) i]/(with_logit f k (f k)) with_same_logit -/p.
    by rewrite (sum_indicator p k).
  have pos : 0 < softmax (with_logit f k (f k)) i by apply: softmax_positive.
  apply: (derive_value (derive_mul dp (derive_ln (g := fun u => softmax (with_logit f k u) i) pos dp))).
  rewrite with_same_logit -/p.
  by have ppos : 0 < p i by [apply: softmax_positive]; field; lra.
apply: (derive_value (is_derive_opp _ _ _ (derive_sum each))); rewrite /opp /=; congr (- _).
rewrite (sum_ext (G := fun i => p i * (ln (p i) + 1) * indicator (i == k) - p k * (p i * ln (p i) + p i))) => [|i].
  rewrite sum_sub (sum_indicator (fun i => p i * (ln (p i) + 1)) k) sum_scale sum_add.
  by rewrite (softmax_total f k) /entropy; ring.
by ring.
Qed.

(* The tilted score of a batch, whose samples are the classes here. *)
Lemma tilted_gradient (tilt : R) (log_prob : class -> R) k : tilt <> 0 ->
  is_derive (fun u => ln (sum (fun b => exp (tilt * with_logit log_prob k u b)) / number class) / tilt) (log_prob k)
    (softmax (fun b => tilt * log_prob b) k).
Proof.
move=> nonzero; have npos := number_positive k.
have inside : is_derive (fun u => sum (fun b => exp (tilt * with_logit log_prob k u b))) (log_prob k)
    (sum (fun b => tilt * indicator (b == k) * exp (tilt * with_logit log_prob k (log_prob k) b))).
  by apply: derive_sum => b; apply: derive_exp; apply: derive_scale; apply: derive_with_logit.
have pos u : 0 < sum (fun b => exp (tilt * with_logit log_prob k u b)).
  exact: (total_positive (fun b => tilt * with_logit log_prob k u b) k).
apply: (is_derive_ext (fun u => / tilt * (ln (sum (fun b => exp (tilt * with_logit log_prob k u b))) - ln (number class)))).
  by move=> u; rewrite ln_div //; rewrite /Rdiv Rmult_comm.
apply: (derive_value (derive_scale (/ tilt) (derive_sub (derive_ln (pos _) inside) (is_derive_const (ln (number class)) (log_prob k))))).
rewrite with_same_logit.
rewrite (sum_ext (G := fun j => tilt * exp (tilt * log_prob j) * indicator (j == k))) => [|j]; last by ring.
rewrite (sum_indicator (fun j => tilt * exp (tilt * log_prob j)) k) /softmax /zero /=.
by have := total_positive (fun b => tilt * log_prob b) k; move=> ?; field; split; lra.
Qed.

(* The weight printed for JS belongs to no generator, and its force to no weight, whatever its sign and scale. *)
Lemma js_printed_is_no_weight : ~ exists slope, forall a b, 0 < a -> 0 < b -> js_printed a b = a * slope (a / b).
Proof.
move=> [slope same]; have one := same 1 2 ltac:(lra) ltac:(lra); have two := same 2 4 ltac:(lra) ltac:(lra).
have e : 2 / 4 = 1 / 2 by lra.
by rewrite e /js_printed in two; rewrite /js_printed in one; lra.
Qed.

Lemma js_printed_is_no_force q p slope (scale : R) i j :
  positive p -> positive q -> p i / q i = p j / q j -> p i <> q i -> p i <> p j ->
  (forall k, scale * (js_printed (p k) (q k) - p k * sum (fun l => js_printed (p l) (q l))) = force slope q p k) ->
  scale = 0.
Proof.
move=> ppos qpos same off differ all.
have hi := all i; have hj := all j; rewrite /force /weight same in hi hj; rewrite /force /weight in hj.
set W := sum (fun l => js_printed (p l) (q l)) in hi hj; set S := sum _ in hi hj; set s := slope _ in hi hj.
have pi := ppos i; have pj := ppos j; have qi := qpos i; have qj := qpos j.
pose c := js_printed (p i) (q i).
have cj : js_printed (p j) (q j) = c.
  rewrite /c /js_printed; have -> : p i = q i * (p j / q j) by rewrite -same; field; lra.
  by field; split; nra.
have cnz : c <> 0.
  rewrite /c /js_printed => zero; apply: off.
  have : 2 * (q i - p i) = 0 by rewrite -(Rmult_0_l (p i + q i)) -zero; field; lra.
  by lra.
rewrite cj in hj; rewrite -/c in hi.
have key : scale * c * (p j - p i) = 0 by nra.
case: (Rmult_integral _ _ key) => [h|]; last by lra.
by case: (Rmult_integral _ _ h).
Qed.

End Score.
