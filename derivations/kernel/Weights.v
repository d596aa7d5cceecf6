(* The weights of the three divergences, their bounds, and small facts of the score. *)
From mathcomp Require Import all_ssreflect.
From Coq Require Import Reals Lra FunctionalExtensionality.
From Coquelicot Require Import Coquelicot.
Require Import Definitions Sums Softmax Divergences Saturation Score.
Set Implicit Arguments.
Unset Strict Implicit.
Local Open Scope R_scope.

Section Weights.

Variable class : finType.
Implicit Types (q p f v : class -> R) (k y : class).

Lemma rkl_weight q p k : positive p -> positive q ->
  weight rkl_slope q p k = - q k /\ weight (fun t => rkl_slope t - rkl_slope 1) q p k = p k - q k.
Proof.
move=> ppos qpos; have pk := ppos k; have qk := qpos k; rewrite /weight /rkl_slope.
by split; field; lra.
Qed.

Lemma fkl_weight q p k : weight (fun t => fkl_slope t - fkl_slope 1) q p k = p k * ln (p k / q k).
Proof. by rewrite /weight /fkl_slope ln_1; ring. Qed.

Lemma js_weight q p k : positive p -> positive q ->
  js_slope 1 = 0 /\ weight js_slope q p k = p k / 2 * ln (p k / ((p k + q k) / 2)).
Proof.
move=> ppos qpos; have pk := ppos k; have qk := qpos k; rewrite /weight /js_slope; split.
  have -> : 2 * 1 / (1 + 1) = 1 by field.
  by rewrite ln_1; field.
have -> : 2 * (p k / q k) / (p k / q k + 1) = p k / ((p k + q k) / 2) by field; lra.
by field.
Qed.

Lemma js_weight_bounds q p k : positive p -> positive q ->
  - q k / 4 <= weight js_slope q p k <= ln 2 / 2 * p k.
Proof.
move=> ppos qpos; have pk := ppos k; have qk := qpos k; have [_ ->] := js_weight k ppos qpos.
set m := (p k + q k) / 2; have mpos : 0 < m by rewrite /m; lra.
split; last first.
  have : ln (p k / m) <= ln 2.
    by apply: ln_le; [apply: Rdiv_lt_0_compat | apply: (Rmult_le_reg_r m) => //; rewrite /Rdiv Rmult_assoc Rinv_l /m; lra].
  by nra.
(* ln(p/m) >= 1 - m/p *)
have ratio : 0 < m / p k by apply: Rdiv_lt_0_compat.
have := exp_ineq1_le (ln (m / p k)); rewrite exp_ln // => h.
have flip : ln (p k / m) = - ln (m / p k).
  have -> : m / p k = / (p k / m) by field; lra.
  by rewrite ln_Rinv; [ring | apply: Rdiv_lt_0_compat].
rewrite flip.
have e : p k / 2 * (m / p k - 1) = (m - p k) / 2 by field; lra.
have : p k / 2 * ln (m / p k) <= p k / 2 * (m / p k - 1) by apply: Rmult_le_compat_l; lra.
by rewrite e /m; lra.
Qed.

Lemma js_printed_bounded (a b : R) : 0 < a -> 0 < b -> Rabs (js_printed a b) < 2.
Proof.
move=> apos bpos; rewrite /js_printed; apply: Rabs_def1.
  by apply: (Rmult_lt_reg_r (a + b)); [lra | rewrite /Rdiv Rmult_assoc Rinv_l; lra].
by apply: (Rmult_lt_reg_r (a + b)); [lra | rewrite /Rdiv Rmult_assoc Rinv_l; lra].
Qed.

Lemma centred_gradients p v : sum p = 1 -> sum (fun i => p i * (v i - sum (fun j => p j * v j))) = 0.
Proof.
move=> ptot; set m := sum (fun j => p j * v j).
rewrite (sum_ext (G := fun i => p i * v i - p i * m)) => [|i]; last by ring.
by rewrite sum_sub sum_scale_right ptot -/m; ring.
Qed.

Lemma tempered_scaling tau_joint tau_marginal temperature f y : temperature <> 0 ->
  tempered tau_joint tau_marginal (fun i => f i / temperature) y =
    tempered (tau_joint / temperature) (tau_marginal / temperature) f y.
Proof.
move=> nonzero; rewrite /tempered.
rewrite (sum_ext (G := fun j => exp (tau_marginal / temperature * f j))) => [|j]; first by congr (_ - _); field.
by congr exp; field.
Qed.

Lemma rkl_gradient_path (f : class -> R -> R) v q x :
  (forall i, is_derive (f i) x (v i)) -> positive q -> sum q = 1 -> (forall t, 0 < t -> is_derive rkl t (rkl_slope t)) ->
  is_derive (fun u => - divergence rkl q (softmax (fun i => f i u))) x
    (sum (fun i => q i * v i) - sum (fun i => softmax (fun j => f j x) i * v i)).
Proof.
move=> df qpos qtot drkl; apply: (derive_value (is_derive_opp _ _ _ (proposition_2_path df qpos drkl))).
set p := softmax (fun i => f i x); set m := sum (fun j => p j * v j).
have ppos i : 0 < p i by apply: softmax_positive.
rewrite /opp /= -sum_opp (sum_ext (G := fun i => q i * v i - m * q i)) => [|i].
  by rewrite sum_sub sum_scale qtot; ring.
by rewrite /weight /rkl_slope; have := ppos i; have := qpos i; move=> *; field; lra.
Qed.

(* The residual e_y - p is as long as 1 - p_y, up to the root of two. *)
Lemma residual_length p y : (forall i, 0 <= p i) -> sum p = 1 ->
  (1 - p y) ^ 2 <= sum (fun i => (indicator (i == y) - p i) ^ 2) <= 2 * (1 - p y) ^ 2.
Proof.
move=> ppos ptot; pose r i := p i * indicator (i != y).
have rpos i : 0 <= r i by rewrite /r /indicator; have := ppos i; case: (i != y); lra.
have rtot : sum r = 1 - p y by have := sum_isolated p y; rewrite ptot -/r; lra.
have -> : sum (fun i => (indicator (i == y) - p i) ^ 2) = (1 - p y) ^ 2 + sum (fun i => r i ^ 2).
  rewrite (sum_isolated _ y) eqxx; congr (_ + _); apply: sum_ext => i.
  by rewrite /r /indicator; case: (i == y) => /=; ring.
have low : 0 <= sum (fun i => r i ^ 2) by apply: sum_nonnegative => i; apply: pow2_ge_0.
have high : sum (fun i => r i ^ 2) <= sum (fun i => r i * (1 - p y)).
  by apply: sum_le => i; have := term_le_sum i rpos; rewrite rtot; have := rpos i; nra.
by rewrite sum_scale_right rtot in high; nra.
Qed.

(* Where the other classes are alike, a force is a multiple of the residual. *)
Lemma one_scale (F p : class -> R) (alpha : R) y i :
  (forall j, j != y -> F j = F i) -> (forall j, j != y -> p j = p i) -> i != y ->
  sum F = 0 -> sum p = 1 -> p y <> 1 ->
  forall j, indicator (j == y) - p j - alpha * F j = (1 - alpha * F y / (1 - p y)) * (indicator (j == y) - p j).
Proof.
move=> Falike palike off Ftot ptot sure j; pose n := sum (fun l => indicator (l != y)).
have all (g : class -> R) : (forall l, l != y -> g l = g i) -> sum g = g y + g i * n.
  move=> alike; rewrite (sum_isolated g y) /n -sum_scale; congr (_ + _); apply: sum_ext => l.
  by rewrite /indicator; case: ifP => [/alike -> //|_]; ring.
have Fn := all F Falike; have pn := all p palike; rewrite Ftot in Fn; rewrite ptot in pn.
have nn : n <> 0 by move=> zero; rewrite zero in pn; lra.
have Fi : F i = - F y / n by apply: (Rmult_eq_reg_r n) => //; rewrite /Rdiv Rmult_assoc Rinv_l //; lra.
have pi : p i = (1 - p y) / n by apply: (Rmult_eq_reg_r n) => //; rewrite /Rdiv Rmult_assoc Rinv_l //; lra.
have d : 1 - p y <> 0 by lra.
case E: (j == y); first by move/eqP: E => ->; rewrite /indicator; field.
rewrite Falike ?E // palike ?E // Fi pi /indicator; field.
by split.
Qed.

Lemma rkl_target q f y alpha : positive q ->
  score 1 1 alpha rkl q f y =
    sum (fun i => (indicator (i == y) + alpha * q i) * ln (softmax f i)) + alpha * entropy q.
Proof.
move=> qpos; have ppos : positive (softmax f) by apply: softmax_positive.
rewrite /score rkl_value //.
have -> : tempered 1 1 f y = ln (softmax f y).
  rewrite ln_softmax /tempered Rmult_1_l; congr (_ - ln _); apply: sum_ext => j; by rewrite Rmult_1_l.
have split_sum : sum (fun i => (indicator (i == y) + alpha * q i) * ln (softmax f i)) =
    ln (softmax f y) + alpha * sum (fun i => q i * ln (softmax f i)).
  rewrite -sum_scale -[in RHS](sum_indicator (fun i => ln (softmax f i)) y) -sum_add.
  by apply: sum_ext => i; ring.
by rewrite split_sum; ring.
Qed.

Lemma position_cancels p q v (x : R) : sum p = 1 -> sum q = 1 ->
  sum (fun k => (q k - p k) * (v k - x)) = sum (fun k => (q k - p k) * v k).
Proof.
move=> ptot qtot; rewrite (sum_ext (G := fun k => (q k - p k) * v k - (q k - p k) * x)) => [|k]; last by ring.
by rewrite sum_sub sum_scale_right sum_sub ptot qtot; ring.
Qed.

(* The classes in bins: the mean over the bins, weighed by what they hold, is the mean over all. *)
Lemma bins_cancel (bin : finType) (place : class -> bin) v :
  sum (fun b : bin => sum (fun i => v i * indicator (place i == b))) = sum v.
Proof.
rewrite /sum exchange_big /=; apply: eq_bigr => i _.
transitivity (sum (fun b : bin => v i * indicator (b == place i))).
  by apply: eq_bigr => b _; rewrite [b == _]eq_sym.
exact: (sum_indicator (fun _ : bin => v i) (place i)).
Qed.

End Weights.
