(* What is left of a force when the classifier is sure of one class. *)
From mathcomp Require Import all_ssreflect.
From Coq Require Import Reals Lra FunctionalExtensionality.
From Coquelicot Require Import Coquelicot.
Require Import Definitions Sums Softmax Divergences.
Set Implicit Arguments.
Unset Strict Implicit.
Local Open Scope R_scope.

Section Limits.

Variables (point : Type) (filter : (point -> Prop) -> Prop).
Context {proper : Filter filter}.
Implicit Types (f g : point -> R).

Lemma limit_mul f g (a b : R) : filterlim f filter (locally a) -> filterlim g filter (locally b) ->
  filterlim (fun z => f z * g z) filter (locally (a * b)).
Proof.
move=> fa gb; apply: (filterlim_comp_2 f g Rmult fa gb).
exact: (filterlim_mult (K := R_AbsRing) a b).
Qed.

Lemma limit_add f g (a b : R) : filterlim f filter (locally a) -> filterlim g filter (locally b) ->
  filterlim (fun z => f z + g z) filter (locally (a + b)).
Proof.
move=> fa gb; apply: (filterlim_comp_2 f g Rplus fa gb).
exact: (filterlim_plus (K := R_AbsRing) (V := R_NormedModule) a b).
Qed.

Lemma limit_const (c : R) : filterlim (fun _ : point => c) filter (locally c).
Proof. exact: filterlim_const. Qed.

Lemma limit_sub f g (a b : R) : filterlim f filter (locally a) -> filterlim g filter (locally b) ->
  filterlim (fun z => f z - g z) filter (locally (a - b)).
Proof.
move=> fa gb; have -> : a - b = a + (-1) * b by ring.
apply: (filterlim_ext (fun z => f z + (-1) * g z)) => [z|]; first by ring.
by apply: limit_add => //; apply: limit_mul => //; apply: limit_const.
Qed.

Lemma limit_value f (a b : R) : filterlim f filter (locally a) -> a = b :> R -> filterlim f filter (locally b).
Proof. by move=> h <-. Qed.

Lemma limit_from_right f (a : R) : (forall z, a < f z) -> filterlim f filter (locally a) ->
  filterlim f filter (at_right a).
Proof.
move=> above fa P near; rewrite /filtermap.
apply: (filter_imp (F := filter) (fun z => a < f z -> P (f z))); last exact: (fa (fun x => a < x -> P x) near).
by move=> z h; exact: (h (above z)).
Qed.

Variable class : finType.
Implicit Types (q : class -> R) (p : point -> class -> R) (slope : R -> R) (k y : class).

(* p tends to one-hot at y: the force on y tends to -(1 - q_y) L, that on another class k to q_k L. *)
Lemma saturation p q slope (L : R) y :
  positive q -> sum q = 1 -> (forall z, positive (p z)) ->
  (forall k, filterlim (fun z => p z k) filter (locally (indicator (k == y)))) ->
  filterlim (fun t => t * slope t) (at_right 0) (locally L) -> continuous slope (1 / q y) ->
  forall k, filterlim (fun z => force slope q (p z) k) filter
    (locally (if k == y then - (1 - q y) * L else q k * L)).
Proof.
move=> qpos qtot ppos one_hot end_of_slope smooth.
pose limit k := if k == y then slope (1 / q y) else q k * L.
have ratio k : filterlim (fun z => p z k / q k) filter (locally (indicator (k == y) / q k)).
  by apply: limit_mul; [apply: one_hot | apply: limit_const].
have weights k : filterlim (fun z => weight slope q (p z) k) filter (locally (limit k)).
  rewrite /limit; case E: (k == y).
    move/eqP: E => E; subst k.
    have top := one_hot y; rewrite eqxx /indicator in top.
    apply: (limit_value (a := 1 * slope (1 / q y))); last by ring.
    apply: limit_mul => //; apply: (filterlim_comp _ _ _ (fun z => p z y / q y) slope _ _ _ _ smooth).
    by have := ratio y; rewrite eqxx /indicator.
  apply: (filterlim_ext (fun z => q k * (p z k / q k * slope (p z k / q k)))) => [z|].
    by rewrite /weight; have := qpos k; move=> ?; field; lra.
  apply: limit_mul; first exact: limit_const.
  apply: (filterlim_comp _ _ _ (fun z => p z k / q k) (fun t => t * slope t) _ _ _ _ end_of_slope).
  apply: limit_from_right => [z|]; first by apply: Rdiv_lt_0_compat; [apply: ppos | apply: qpos].
  by have := ratio k; rewrite E /indicator /Rdiv Rmult_0_l.
have total : filterlim (fun z => sum (weight slope q (p z))) filter
    (locally (slope (1 / q y) + (1 - q y) * L)).
  apply: (limit_value (limit_sum weights)).
  rewrite (sum_isolated limit y) {1}/limit eqxx; congr (_ + _).
  rewrite (sum_ext (G := fun i => L * q i - L * (q i * indicator (i == y)))) => [|i].
    by rewrite sum_sub !sum_scale qtot sum_indicator; ring.
  by rewrite /limit /indicator; case: (i == y) => /=; ring.
move=> k; apply: (limit_value (limit_sub (weights k) (limit_mul (one_hot k) total))).
by rewrite /limit /indicator; case: (k == y); ring.
Qed.

End Limits.

(* One logit grows beyond all bounds. *)
Lemma softmax_tends_to_one_hot (class : finType) (f : class -> R) (y k : class) :
  filterlim (fun x => softmax (with_logit f y x) k) (Rbar_locally p_infty) (locally (indicator (k == y))).
Proof.
have others i : i != y -> filterlim (fun x => softmax (with_logit f y x) i) (Rbar_locally p_infty) (locally 0).
  move=> off; apply: (filterlim_le_le (fun _ => 0) _ (fun x => exp (f i) * exp (- x)) (Finite 0)).
  - exists 0 => x _; split; first by apply: Rlt_le; apply: softmax_positive.
    rewrite /softmax {1}/with_logit (negbTE off) exp_Ropp /Rdiv.
    apply: Rmult_le_compat_l; first by apply: Rlt_le; apply: exp_pos.
    apply: Rinv_le_contravar; first exact: exp_pos.
    have := term_le_sum (F := fun j => exp (with_logit f y x j)) y; rewrite /with_logit eqxx.
    by apply=> j; apply: Rlt_le; apply: exp_pos.
  - exact: filterlim_const.
  - have -> : Finite 0 = Finite (exp (f i) * 0) by congr Finite; ring.
    apply: limit_mul; first exact: limit_const.
    apply: (filterlim_comp _ _ _ Ropp exp _ (Rbar_locally m_infty)); last exact: is_lim_exp_m.
    exact: (is_lim_opp (fun x => x) p_infty p_infty (is_lim_id p_infty)).
case E: (k == y); last by apply: others; rewrite E.
move/eqP: E => ->.
apply: (filterlim_ext (fun x => 1 - sum (fun i => softmax (with_logit f y x) i * indicator (i != y)))) => [x|].
  by have := softmax_total (with_logit f y x) y; rewrite (sum_isolated _ y); lra.
apply: (limit_value (a := 1 - sum (fun _ : class => 0))); last by rewrite sum_zero // /indicator; ring.
apply: limit_sub; first exact: limit_const.
apply: limit_sum => i; case off: (i != y).
  apply: (limit_value (a := 0 * indicator true)); last by rewrite /indicator; ring.
  by apply: limit_mul; [apply: others | apply: limit_const].
apply: (limit_value (a := 0)); last by [].
by apply: (filterlim_ext (fun _ => 0)) => [x|]; [rewrite /indicator; ring | apply: limit_const].
Qed.

(* The limits L of t f'(t) for the three divergences of the source. *)
Lemma rkl_end : filterlim (fun t => t * rkl_slope t) (at_right 0) (locally (-1)).
Proof.
apply: (filterlim_within_ext (fun u => 0 < u) (fun _ => -1)) => [t pos|]; last exact: filterlim_const.
by rewrite /rkl_slope; field; lra.
Qed.

Lemma right_of_zero : filterlim (fun t : R => t) (at_right 0) (locally 0).
Proof. by move=> P near; apply: (filter_imp P) => //; apply: filter_le_within. Qed.

Lemma t_ln_t_vanishes : filterlim (fun t => t * ln t) (at_right 0) (locally 0).
Proof.
apply: (filterlim_le_le (fun t => -2 * sqrt t) _ (fun t => t) (Finite 0)).
- exists (mkposreal 1 Rlt_0_1) => t near pos.
  have below : t < 1 by move: near; rewrite /ball /= /AbsRing_ball /abs /minus /plus /opp /=; move/Rabs_def2; lra.
  have root : 0 < sqrt t by apply: sqrt_lt_R0.
  have square := sqrt_sqrt t (Rlt_le _ _ pos).
  have ipos : 0 < / sqrt t by apply: Rinv_0_lt_compat.
  have := exp_ineq1_le (ln (/ sqrt t)); rewrite exp_ln // ln_Rinv // => h.
  have twice : ln t = 2 * ln (sqrt t) by rewrite -{1}square ln_mult //; ring.
  have neg : ln t < 0 by rewrite -ln_1; apply: ln_increasing.
  split; last by nra.
  have unit : sqrt t * / sqrt t = 1 by apply: Rinv_r; lra.
  by nra.
- have -> : Finite 0 = Finite (-2 * sqrt 0) by rewrite sqrt_0; congr Finite; ring.
  apply: limit_mul; first exact: filterlim_const.
  by apply: (filterlim_comp _ _ _ (fun t => t) sqrt _ _ _ right_of_zero); apply: continuous_sqrt.
- exact: right_of_zero.
Qed.

Lemma fkl_end : filterlim (fun t => t * fkl_slope t) (at_right 0) (locally 0).
Proof.
apply: (filterlim_ext (fun t => t * ln t + t)) => [t|]; first by rewrite /fkl_slope; ring.
apply: (limit_value (a := 0 + 0)); last by ring.
by apply: limit_add; [apply: t_ln_t_vanishes | apply: right_of_zero].
Qed.

Lemma js_end : filterlim (fun t => t * js_slope t) (at_right 0) (locally 0).
Proof.
apply: (filterlim_within_ext (fun u => 0 < u) (fun t => / 2 * (t * ln t + t * (ln 2 - ln (t + 1))))) => [t pos|].
  by rewrite /js_slope /Rdiv ln_mult ?ln_mult ?ln_Rinv; try lra; apply: Rinv_0_lt_compat; lra.
apply: (limit_value (a := / 2 * (0 + 0 * (ln 2 - ln (0 + 1))))); last by ring.
apply: limit_mul; first exact: filterlim_const.
apply: limit_add; first exact: t_ln_t_vanishes.
apply: limit_mul; first exact: right_of_zero.
apply: limit_sub; first exact: filterlim_const.
apply: (filterlim_comp _ _ _ (fun t => t + 1) ln _ (locally (0 + 1))).
  by apply: limit_add; [apply: right_of_zero | apply: filterlim_const].
by apply: continuous_ln; lra.
Qed.
